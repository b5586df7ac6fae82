/** What one local socket, one user and one connection may take. */
export interface Limits {
  /** Of one request. */
  readonly messageBytes: number
  /** Of one request, names and values. */
  readonly headerBytes: number
  readonly streamsPerConnection: number
  readonly callsPerUser: number
  readonly connectionsPerUser: number
  readonly connections: number
  /** A connection must have said who it is, in HTTP/2, within this time. */
  readonly greetingMs: number
  /** A connection without a call is closed after this time. */
  readonly idleMs: number
}

export const defaultLimits: Limits = {
  messageBytes: 64 * 1024,
  headerBytes: 8 * 1024,
  streamsPerConnection: 256,
  callsPerUser: 4096,
  connectionsPerUser: 1024,
  connections: 4096,
  greetingMs: 10_000,
  idleMs: 600_000,
}
