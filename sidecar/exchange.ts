import type { Failure } from './failures.js'
import type { WireFault } from './http1/wire-fault.js'

/** Names in lower case and values by turns, in the order of the wire, repeated names included. */
export type Headers = readonly string[]

/** How many bytes of body follow: none, a known number, or as many as come. */
export type BodyLength = number | 'none' | 'streamed'

/** A request as a connection understood it; the headers that only concern the connection are gone. */
export interface RequestHead {
  readonly method: string
  /** The request target of HTTP/1.1, `:path` of HTTP/2. */
  readonly target: string
  /** Every `Host` header. */
  readonly hosts: readonly string[]
  /** `:authority` of HTTP/2. */
  readonly authority: string | undefined
  readonly headers: Headers
  /** The lower-case names that `Connection` lists. */
  readonly connectionNames: ReadonlySet<string>
  readonly body: BodyLength
  /** The caller wants to go on with WebSocket frames. */
  readonly upgrade: boolean
}

/** What is sent on: nothing in it is taken from the wire unseen. */
export interface ForwardedHead {
  readonly method: string
  readonly target: string
  readonly host: string
  readonly headers: Headers
  readonly body: BodyLength
  readonly upgrade: boolean
}

export interface ResponseHead {
  readonly status: number
  /** The reason phrase of HTTP/1.1; may be empty. */
  readonly reason: string
  readonly headers: Headers
  readonly body: BodyLength
}

/** One of the two sides of an exchange, as the other side sees it. */
interface Side {
  /** Part of a body. The bytes are lent: they may change after the next `flush`. */
  write(chunk: Buffer): void
  /** The body is complete. */
  finish(trailers: Headers): void
  /**
   * Puts on the wire what was gathered; called whenever nothing more is at hand. False when this
   * side is slow: the other one then stops reading until its `resume` is called.
   */
  flush(): boolean
  /** What the other side holds back can be taken now. */
  resume(): void
}

/** The side that asked: where a response goes. */
export interface Requester extends Side {
  /** A response ahead of the response, such as 103. */
  inform(head: ResponseHead): void
  respond(head: ResponseHead): void
  /** There will be no (complete) response. The caller learns it in the way of its protocol. */
  fail(failure: Failure): void
}

/** The side that is asked: where the body of a request goes. */
export interface Responder extends Side {
  /** Nobody waits for the response any more. */
  abort(): void
}

export const NO_TRAILERS: Headers = []

/** An answer of the proxy itself. */
export interface Answer {
  readonly head: ResponseHead
  readonly content: Buffer
  /** Nothing after it on the same connection is to be believed. */
  readonly isLast: boolean
}

/** Why an exchange or a connection ended. */
export type CloseReason =
  | 'complete'
  | 'caller'
  | 'upstream'
  | 'idle'
  | 'drain'
  | 'malformed'
  | 'policy'
  | 'svid-expired'
  | 'bundle-removed'
  | 'no-identity'

/** One request and its response, from the judgement on the head to the line in the access log. */
export interface Exchange {
  bytesIn: number
  bytesOut: number
  /** Sends the request on if it is allowed; else gives what the caller is to be told. */
  start(requester: Requester): { readonly responder: Responder } | { readonly answer: Answer }
  /** What the caller is to be told when there will be no response. */
  answerTo(failure: Failure): Answer
  /** What the caller is to be told when its bytes turn out to be no request. */
  malformed(fault: WireFault): Answer
  /** The head of the response goes out. */
  responded(status: number): void
  /** Whether it would be let through now. */
  stillAllowed(): boolean
  /** It is over. The first call counts. */
  finished(how: CloseReason): void
}

/** Makes exchanges out of the requests of one connection. */
export interface RequestHandler {
  open(head: RequestHead): Exchange
  /** For bytes that never became a request. */
  openUnreadable(): Exchange
}
