/** Work that holds the control thread or much memory: so much at a time, more is refused at once with 429. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { StatusError } from './status.ts';

/** Requests with such work that may be under way, bodies being received included. */
const MOST_JOBS = 8;
const RETRY_SECONDS = 1;

export class JobGate {
  private running = 0;

  /** Takes a place before the body is read and gives it back when the answer is out or the client gone. */
  readonly enter = async (_request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    if (this.running >= MOST_JOBS) {
      reply.header('retry-after', String(RETRY_SECONDS));
      throw new StatusError(429, `${this.running} jobs are under way, as many as may be`, {
        retryAfterSeconds: RETRY_SECONDS,
      });
    }
    this.running++;
    let entered = true;
    const leave = (): void => {
      if (entered) this.running--;
      entered = false;
    };
    reply.raw.once('finish', leave);
    reply.raw.once('close', leave);
  };
}

/** Lets everything else that waits have its turn. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
