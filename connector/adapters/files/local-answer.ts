import { utf8 } from '../../../contracts/bytes.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { AnswerSink, Flow, HeaderList } from '../../data-plane/ports.ts';

/** Answers that are made here, at the pace of whoever takes them. */

export interface Head {
  readonly status: number;
  readonly headers: HeaderList;
}

/** The head first, then the body in pieces. */
export type LocalAnswer = AsyncGenerator<Head | Uint8Array, void, void>;

/** Hands an answer to a sink; a generator that is left early is closed, and with it the file it reads. */
export const giveAnswer = (sink: AnswerSink, answer: LocalAnswer): Flow => {
  let isOver = false;
  let paused: PromiseWithResolvers<void> | undefined;
  const give = (piece: Head | Uint8Array): void =>
    piece instanceof Uint8Array ? sink.data(piece) : sink.head(piece.status, piece.headers);
  const run = async (): Promise<void> => {
    try {
      for await (const piece of answer) {
        if (isOver) return;
        give(piece);
        await paused?.promise;
        if (isOver) return;
      }
      if (!isOver) sink.end();
    } catch (error) {
      if (!isOver) sink.fail(error);
    }
  };
  setImmediate(() => void run());
  const resume = (): void => {
    paused?.resolve();
    paused = undefined;
  };
  return {
    pause: () => {
      paused ??= Promise.withResolvers();
    },
    resume,
    abort: () => {
      isOver = true;
      resume();
    },
  };
};

/** There is nothing of that name here. */
export const nothingThere = async function* (method: 'GET' | 'HEAD'): LocalAnswer {
  const { code, title, status } = new AppError('not-found');
  const body = utf8(JSON.stringify({ type: `urn:stekker:1:error:${code}`, title, status }));
  yield { status, headers: ['content-type', 'application/problem+json', 'content-length', String(body.length)] };
  if (method === 'GET') yield body;
};
