/**
 * Which of several servers is used: one at a time, and the same one for as long as it serves. The nodes of a cluster take
 * writes alike, but those of one id through one node need not be compared between nodes.
 */

/** One server, or one node of a cluster. */
export interface ServerHost {
  readonly host: string;
  readonly port: number;
}

export class HostRota {
  readonly #hosts: readonly ServerHost[];
  /** The one to try first. */
  #at = 0;
  /** Of several calls only the last counts. */
  #turn = 0;

  constructor(hosts: readonly ServerHost[]) {
    this.#hosts = hosts;
  }

  /**
   * Connects to the first that can be used, beginning with the last one that was.
   * @throws what the first of them failed with.
   */
  async connect(connectTo: (host: ServerHost) => Promise<void>, close: () => Promise<void>): Promise<void> {
    const turn = ++this.#turn;
    const first = this.#at;
    let failure: unknown;
    for (let step = 0; step < this.#hosts.length; step++) {
      const at = (first + step) % this.#hosts.length;
      await close();
      if (turn !== this.#turn) throw new Error('it is connected anew');
      // A server that hangs outlasts whoever waits for this; the next call begins with the next server.
      this.#at = (at + 1) % this.#hosts.length;
      try {
        await connectTo(this.#hosts[at] as ServerHost);
        if (turn !== this.#turn) throw new Error('it is connected anew');
        this.#at = at;
        return;
      } catch (error) {
        if (turn !== this.#turn) throw error;
        failure ??= error;
      }
    }
    await close();
    throw failure;
  }
}
