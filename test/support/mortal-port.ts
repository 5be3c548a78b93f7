import { Crash } from './torn-files.ts';

/** One life of a process: it ends at an operation, and everything it still tries fails. */
export interface Life {
  isOver: boolean;
  left: number;
}

/** A port whose process ends before or after one of its calls; synchronous members only work or are gone. */
export const mortalPort = <Port extends object>(
  port: Port,
  life: Life,
  die: () => void,
  synchronous: readonly string[] = [],
): Port => {
  const step = (): void => {
    life.left -= 1;
    if (life.left === 0) die();
    if (life.isOver) throw new Crash('the process is gone');
  };
  const wrapped = Object.entries(port).map(([name, member]) => {
    if (typeof member !== 'function') return [name, member];
    return [
      name,
      (...parameters: unknown[]) => {
        const call = () => Reflect.apply(member, port, parameters) as unknown;
        if (synchronous.includes(name)) return life.isOver ? undefined : call();
        const work = async () => {
          step();
          const result = await call();
          step();
          return result;
        };
        return work();
      },
    ];
  });
  return Object.fromEntries(wrapped) as Port;
};
