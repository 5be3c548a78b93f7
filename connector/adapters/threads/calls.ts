import { AppError, type ErrorCode, errorTable, isAppError } from '../../../contracts/errors.ts';

/** Calls between two threads: each side serves a table of functions, and answers come back under the number of their call. */

/** What one side serves. */
type CallTable = Readonly<Record<string, (...parameters: never[]) => unknown>>;

/** What the other side of a port serves. Calls reach it in the order in which they were made. */
export interface Calls<Theirs extends CallTable> {
  /** Rejects with what it threw, or with `busy` when the other side is gone. */
  readonly call: <Name extends keyof Theirs & string>(
    name: Name,
    ...parameters: Parameters<Theirs[Name]>
  ) => Promise<Awaited<ReturnType<Theirs[Name]>>>;
  /** Nobody hears how it went. */
  readonly tell: <Name extends keyof Theirs & string>(name: Name, ...parameters: Parameters<Theirs[Name]>) => void;
  /** The other side is gone. */
  readonly end: () => void;
}

type Message =
  | { readonly kind: 'call'; readonly id: number; readonly name: string; readonly parameters: readonly unknown[] }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'fault'; readonly id: number; readonly code: ErrorCode | undefined; readonly detail: string };

const isKnown = (code: string): code is ErrorCode => code in errorTable;

const faultOf = (id: number, error: unknown): Message => ({
  kind: 'fault',
  id,
  code: isAppError(error) && isKnown(error.code) ? error.code : undefined,
  detail: error instanceof Error ? ((isAppError(error) ? error.detail : undefined) ?? error.message) : String(error),
});

const gone = (): AppError => new AppError('busy', { detail: 'the other thread is gone', retryAfterSeconds: 1 });

/** Serves `ours` on a port, and calls what the other side serves there. */
export const createCalls = <Theirs extends CallTable>(
  port: {
    readonly postMessage: (message: unknown) => void;
    readonly on: (event: 'message', hear: (message: Message) => void) => unknown;
  },
  ours: CallTable,
): Calls<Theirs> => {
  const waiting = new Map<
    number,
    { readonly resolve: (value: never) => void; readonly reject: (error: Error) => void }
  >();
  let last = 0;
  let isOver = false;

  const serve = async ({ id, name, parameters }: Extract<Message, { kind: 'call' }>): Promise<void> => {
    try {
      const value = await ours[name]?.(...(parameters as never[]));
      if (id > 0 && !isOver) port.postMessage({ kind: 'answer', id, value } satisfies Message);
    } catch (error) {
      if (id > 0 && !isOver) port.postMessage(faultOf(id, error));
    }
  };
  port.on('message', (message) => {
    if (message.kind === 'call') {
      void serve(message);
      return;
    }
    const asked = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.kind === 'answer') asked?.resolve(message.value as never);
    else if (message.code === undefined) asked?.reject(new Error(message.detail));
    else asked?.reject(new AppError(message.code, { detail: message.detail }));
  });
  return {
    call: (name, ...parameters) =>
      new Promise((resolve, reject) => {
        if (isOver) return reject(gone());
        last += 1;
        waiting.set(last, { resolve, reject });
        port.postMessage({ kind: 'call', id: last, name, parameters } satisfies Message);
      }),
    tell: (name, ...parameters) => {
      if (!isOver) port.postMessage({ kind: 'call', id: 0, name, parameters } satisfies Message);
    },
    end: () => {
      isOver = true;
      for (const { reject } of waiting.values()) reject(gone());
      waiting.clear();
    },
  };
};
