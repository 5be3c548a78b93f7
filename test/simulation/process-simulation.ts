import { initial, type Machine, type Process, type ProcessEvent, type Role } from '../../contracts/dsp/process.ts';

/**
 * Two sides of one protocol over a network that loses, repeats, delays and reorders, with crashes in between, and then
 * heals. Everything follows from the seed, so a failing run can be played again.
 */

/** A small seeded generator (mulberry32): fast, and the same everywhere. */
export const createDice = (seed: number) => {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  return {
    below: (limit: number) => Math.floor(next() * limit),
    chance: (probability: number) => next() < probability,
  };
};
type Dice = ReturnType<typeof createDice>;

interface Side<State extends string, Kind extends string> {
  process: Process<State, Kind> | undefined;
  /** Messages that were accepted, by id: a repeat gets the same answer (dsp §12.1). Refusals are not kept. */
  readonly accepted: Set<string>;
  asks: boolean;
  sequence: number;
  /** What an accepted message was answered with; a repeat gets the same. */
  readonly newestAt: Map<string, string>;
  /** The peer told that its messages up to this one are settled: a late one among them is a ghost. */
  settledPeer: string;
}

type Packet<State extends string, Kind extends string> =
  | { readonly type: 'message'; readonly to: Role; readonly kind: Kind; readonly id: string }
  | {
      readonly type: 'answer';
      readonly to: Role;
      readonly id: string;
      readonly status: 'ok' | 'refused' | 'not-found';
      readonly newest: string;
    }
  | { readonly type: 'ask'; readonly to: Role; readonly id: string }
  | { readonly type: 'told'; readonly to: Role; readonly id: string; readonly state: State | undefined };

export interface Simulated<State extends string, Kind extends string> {
  readonly machine: Machine<State, Kind>;
  readonly starter: { readonly role: Role; readonly kind: Kind };
  readonly kinds: readonly Kind[];
}

export interface Ending {
  readonly provider: string;
  readonly consumer: string;
  readonly diverged: boolean;
  readonly trace: readonly string[];
}

const other = (role: Role): Role => (role === 'provider' ? 'consumer' : 'provider');
const chaosSteps = 200;
const healingSteps = 400;

export const simulate = <State extends string, Kind extends string>(
  { machine, starter, kinds }: Simulated<State, Kind>,
  seed: number,
  keepTrace = false,
): Ending => {
  type Its = Packet<State, Kind>;
  const dice: Dice = createDice(seed);
  const trace: string[] = [];
  const fresh = (): Side<State, Kind> => ({
    process: undefined,
    accepted: new Set(),
    asks: false,
    sequence: 0,
    newestAt: new Map(),
    settledPeer: '',
  });
  const sides: Record<Role, Side<State, Kind>> = { provider: fresh(), consumer: fresh() };
  const network: Its[] = [];
  const note = (line: () => string) => {
    if (keepTrace) trace.push(line());
  };

  const apply = (role: Role, event: ProcessEvent<State, Kind>): boolean => {
    const side = sides[role];
    const process = side.process ?? { role, state: initial, pending: null };
    const outcome = machine.transition(process, event);
    note(
      () =>
        `${role} ${process.state}/${process.pending?.kind ?? '-'} ${JSON.stringify(event)} → ${outcome.ok ? `${outcome.next.state}/${outcome.next.pending?.kind ?? '-'}` : 'refused'}`,
    );
    if (!outcome.ok) return false;
    side.process = outcome.next;
    side.asks = outcome.effects.includes('ask');
    return true;
  };

  const newId = (role: Role) => {
    sides[role].sequence += 1;
    return idOf(role);
  };

  const idOf = (role: Role) => `${role}-${String(sides[role].sequence).padStart(6, '0')}`;

  const receive = (packet: Extract<Its, { type: 'message' }>): 'ok' | 'refused' | 'not-found' => {
    const side = sides[packet.to];
    if (side.process === undefined && packet.kind !== starter.kind) return 'not-found';
    if (side.accepted.has(packet.id)) return 'ok';
    if (packet.id <= side.settledPeer || !apply(packet.to, { type: 'received', kind: packet.kind })) return 'refused';
    side.accepted.add(packet.id);
    side.settledPeer = packet.id; // what is older and was not accepted is dead
    side.newestAt.set(packet.id, idOf(packet.to));
    return 'ok';
  };

  const deliver = (packet: Its): void => {
    const side = sides[packet.to];
    switch (packet.type) {
      case 'message': {
        const status = receive(packet);
        network.push({
          type: 'answer',
          to: other(packet.to),
          id: packet.id,
          status,
          newest: side.newestAt.get(packet.id) ?? '',
        });
        break;
      }
      case 'answer':
        if (packet.status === 'ok') {
          if (packet.newest > side.settledPeer) side.settledPeer = packet.newest;
          apply(packet.to, { type: 'acknowledged', message: packet.id });
        }
        if (packet.status === 'refused') apply(packet.to, { type: 'refused', message: packet.id });
        break;
      case 'ask':
        network.push({
          type: 'told',
          to: other(packet.to),
          id: packet.id,
          state: side.process?.state === initial ? undefined : (side.process?.state as State | undefined),
        });
        break;
      case 'told':
        apply(packet.to, {
          type: 'peer-state',
          message: packet.id,
          state: packet.state,
          termination: newId(packet.to),
        });
    }
  };

  /** A worker's round: the pending message is sent again, or the peer is asked. */
  const work = (role: Role): void => {
    const { process, asks } = sides[role];
    if (process?.pending == null) return;
    const { kind, message: id } = process.pending;
    network.push(asks ? { type: 'ask', to: other(role), id } : { type: 'message', to: other(role), kind, id });
  };

  const decide = (role: Role): void => {
    const { process } = sides[role];
    if (process === undefined || process.state === initial) return;
    const wild = dice.chance(0.15); // mostly go on, so that runs get far; now and then anything
    const possible = kinds.filter((kind) => machine.maySend(process, kind) && (wild || kind !== 'termination'));
    const kind = possible[dice.below(Math.max(possible.length, 1))];
    if (kind !== undefined) apply(role, { type: 'decided', kind, message: newId(role) });
  };

  const takePacket = (): Its | undefined => network.splice(dice.below(Math.max(network.length, 1)), 1)[0];

  const chaos = (): void => {
    const role: Role = dice.chance(0.5) ? 'provider' : 'consumer';
    const choice = dice.below(10);
    if (choice < 5) {
      const packet = takePacket();
      if (packet === undefined) return;
      if (dice.chance(0.2)) return; // lost
      if (dice.chance(0.2)) network.push(packet); // repeated later
      deliver(packet);
    } else if (choice < 8) work(role);
    else if (choice === 8) decide(role);
    else if (dice.chance(0.1)) sides[role].asks = false; // a crash forgets what was in memory; state and outbox stay
  };

  const quiet = () =>
    network.length === 0 && (['provider', 'consumer'] as const).every((role) => sides[role].process?.pending == null);

  apply(starter.role, { type: 'decided', kind: starter.kind, message: newId(starter.role) });
  for (let step = 0; step < chaosSteps; step += 1) chaos();
  for (let step = 0; step < healingSteps && !quiet(); step += 1) {
    const packet = takePacket();
    if (packet !== undefined) deliver(packet);
    else {
      work('provider');
      work('consumer');
    }
  }
  const state = (role: Role) => sides[role].process?.state ?? 'none';
  const provider = state('provider');
  const consumer = state('consumer');
  const neverArrived = (provider === 'none' || consumer === 'none') && [provider, consumer].includes('TERMINATED');
  return { provider, consumer, diverged: !quiet() || (provider !== consumer && !neverArrived), trace };
};
