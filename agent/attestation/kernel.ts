/** Who connected to a Unix socket, as of the moment it connected. */
export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** Supplementary groups, in ascending order. */
  readonly groups: readonly number[]
}

/** A hold on one process that no later process with the same pid can inherit. */
export interface ProcessHandle {
  /**
   * `socket`: of the very process that connected (`SO_PEERPIDFD`, Linux 6.5). `pid`: of the process
   * that had the pid when it was opened, shortly after: if the one that connected had ended and its
   * pid was taken again by then, it is the newcomer's.
   */
  readonly origin: 'socket' | 'pid'
  /** Asks and never waits. A zombie has exited. */
  hasExited(): boolean
  close(): void
}

/** The questions about processes that only the kernel can answer. */
export interface PeerKernel {
  /** Throws `CS_CALLER_NOT_ATTESTED`. */
  credentialsOf(descriptor: number): PeerCredentials
  /** Throws `CS_CALLER_NOT_ATTESTED` when the process that connected is gone. */
  handleOfPeer(descriptor: number, pid: number): ProcessHandle
  /** Throws `CS_CALLER_NOT_ATTESTED` when there is no such process. */
  handleOfPid(pid: number): ProcessHandle
}
