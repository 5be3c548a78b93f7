/**
 * What the demo claims, and how far each claim goes: *works* names the test that proves it, *simulated* says what stands in
 * for the real thing, *planned* is not there yet. Nothing is shown as more than it is.
 */
export type Claim =
  | { readonly state: 'works'; readonly claim: string; readonly test: string }
  | { readonly state: 'simulated' | 'planned'; readonly claim: string; readonly instead: string };

export const claims: readonly Claim[] = [
  {
    state: 'works',
    claim: 'one access goes the whole way: found, negotiated, recorded, co-signed, logged, verified offline',
    test: 'demo > counts and amounts are those of the journals of both sides',
  },
  {
    state: 'works',
    claim: 'refusals: purpose, accreditation, replay, revocation within five seconds',
    test: 'demo > every refusal has its documented status and a reason',
  },
  {
    state: 'works',
    claim: 'receipts verify with one file of code and no service running',
    test: 'demo > receipts verify again with the one-file verifier alone, and a flipped byte fails',
  },
  { state: 'simulated', claim: 'water levels', instead: 'a seeded generator; every feature says synthetisch' },
  { state: 'simulated', claim: 'the chain', instead: 'anvil, a development chain on this machine, where there is one' },
  { state: 'simulated', claim: 'separate organisations', instead: 'separate processes on localhost, over plain HTTP' },
  { state: 'simulated', claim: 'the accreditation', instead: 'criteria made up for the demo; nobody judged the model' },
  {
    state: 'planned',
    claim: 'witnesses of the log',
    instead: 'quorum none: each receipt says that nobody else signed',
  },
  { state: 'planned', claim: 'payment', instead: 'amounts that both sides signed; no invoice is sent' },
];

/** For people: state, claim, and what stands in its place. */
export const claimRows = (): readonly (readonly string[])[] =>
  claims.map((one) => [one.state, one.claim, one.state === 'works' ? 'tested' : one.instead]);
