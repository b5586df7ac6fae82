/** What one message may be. Everything beyond is refused with a reason, and counted. */
export interface MessageLimits {
  /** Request or status line and headers together. */
  readonly headBytes: number
  readonly headers: number
  readonly targetBytes: number
  /** `undefined` for no limit: bodies are streamed and never held. */
  readonly bodyBytes: number | undefined
  /** Trailer section of one body. */
  readonly trailerBytes: number
}

export interface ConnectionLimits {
  /** Open connections of one listener. */
  readonly connections: number
  /** Of which one caller may hold so many. */
  readonly connectionsPerCaller: number
  /** New connections that one address may open in a second, on average and at once. */
  readonly connectRate: number
  readonly connectBurst: number
  /** Streams of one HTTP/2 connection. */
  readonly streams: number
  /** Connections to one app or peer. */
  readonly upstreamConnections: number
}

/** Milliseconds. */
export interface TimeLimits {
  /** From the accepted connection to the end of the TLS handshake. */
  readonly handshake: number
  /** From the first byte of a request to the end of its head. */
  readonly head: number
  /** Between two requests of a kept connection. */
  readonly keepAlive: number
  /** Without a byte of the request, until the head of the response is there. */
  readonly response: number
  /** Without a byte in either direction of a response, or of a TCP connection. */
  readonly idle: number
  /** Until the app or peer has accepted, the TLS handshake included. */
  readonly connect: number
  /** After one direction of a TCP connection has ended. */
  readonly halfClosed: number
  /** For the caller to take note of a refusal before the connection is cut. */
  readonly linger: number
  /** An unused connection to the app is closed before apps usually close it themselves. */
  readonly appIdle: number
  /** An unused connection to a peer; shorter than `keepAlive`, so that the calling side closes first. */
  readonly peerIdle: number
}

export interface Limits {
  readonly request: MessageLimits
  readonly response: MessageLimits
  readonly connection: ConnectionLimits
  readonly time: TimeLimits
}

const KIB = 1024
const SECOND = 1000

export const defaultLimits: Limits = {
  request: {
    headBytes: 32 * KIB,
    headers: 100,
    targetBytes: 8 * KIB,
    bodyBytes: undefined,
    trailerBytes: 8 * KIB,
  },
  response: {
    headBytes: 64 * KIB,
    headers: 200,
    targetBytes: 8 * KIB,
    bodyBytes: undefined,
    trailerBytes: 8 * KIB,
  },
  connection: {
    connections: 4096,
    connectionsPerCaller: 1024,
    connectRate: 200,
    connectBurst: 1000,
    streams: 128,
    upstreamConnections: 1024,
  },
  time: {
    handshake: 10 * SECOND,
    head: 10 * SECOND,
    keepAlive: 75 * SECOND,
    response: 300 * SECOND,
    idle: 3600 * SECOND,
    connect: 10 * SECOND,
    halfClosed: 60 * SECOND,
    linger: 2 * SECOND,
    appIdle: 4 * SECOND,
    peerIdle: 30 * SECOND,
  },
}
