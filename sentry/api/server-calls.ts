import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerDuplexStream,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js'
import type { Log } from '../../platform/log.js'
import { SentryError } from '../errors.js'
import { latch } from '../latch.js'
import type { Authorization } from './authorization.js'
import type { Caller, CallerBook } from './caller.js'
import { codeOf, replyTo } from './reply.js'

/** Under which circumstances a call is served. */
export interface CallContext {
  readonly caller: Caller
  /** Aborts when the caller is gone or its deadline has passed. */
  readonly signal: AbortSignal
}

/** The messages of a stream, taken one by one. */
export interface Conversation<Request, Response> extends CallContext {
  /** The next message, or undefined when the caller has said all. Rejects when the call is over. */
  read(): Promise<Request | undefined>
  /** Resolves when there is room for the next message. Rejects when the call is over. */
  write(response: Response): Promise<void>
}

/** Turns functions that return or throw into handlers of grpc-js. */
export interface ServerCalls {
  unary<Request, Response>(
    serve: (request: Request, context: CallContext) => Promise<Response> | Response,
  ): handleUnaryCall<Request, Response>
  serverStream<Request, Response>(
    serve: (request: Request, stream: Conversation<never, Response>) => Promise<void>,
  ): handleServerStreamingCall<Request, Response>
  bidirectional<Request, Response>(
    serve: (stream: Conversation<Request, Response>) => Promise<void>,
  ): handleBidiStreamingCall<Request, Response>
}

export interface Refusal {
  readonly path: string
  readonly caller: Caller
  readonly code: string
}

export interface ServerCallOptions {
  readonly callers: CallerBook
  readonly log: Log
  /** Hears of everything that a call was refused or failed with. */
  readonly onRefused: (refusal: Refusal) => void
}

export function serverCalls(options: ServerCallOptions): ServerCalls {
  const { callers, onRefused, log } = options
  const fail = (error: unknown, path: string, caller: Caller) => {
    const code = codeOf(error)
    if (code === 'CS_INTERNAL') log.error({ code, path, error }, 'call failed')
    onRefused({ path, caller, code })
    return replyTo(error)
  }
  return {
    unary: (serve) => (call, answer) => {
      const caller = callers.find(call.getPeer()) ?? nobody
      const context = unaryContext(call, caller)
      const refuse = (error: unknown) => {
        if (!call.cancelled) answer(fail(error, call.getPath(), caller))
      }
      try {
        if (caller === nobody) throw callIsOver
        void Promise.resolve(serve(call.request, context)).then(
          (response) => answer(null, response),
          refuse,
        )
      } catch (error) {
        refuse(error)
      }
    },
    serverStream: (serve) => (call) => {
      const caller = callers.find(call.getPeer()) ?? nobody
      const stream = conversation<never, never>(call, caller)
      const served = caller === nobody ? Promise.reject(callIsOver) : serve(call.request, stream)
      void served.then(
        () => call.end(),
        (error: unknown) => end(call, stream, () => fail(error, call.getPath(), caller)),
      )
    },
    bidirectional: (serve) => (call) => {
      const caller = callers.find(call.getPeer()) ?? nobody
      const stream = conversation<never, never>(call, caller)
      const served = caller === nobody ? Promise.reject(callIsOver) : serve(stream)
      void served.then(
        () => call.end(),
        (error: unknown) => end(call, stream, () => fail(error, call.getPath(), caller)),
      )
    },
  }
}

/** Lets a call through to its handler, and to its first message, only when its caller may make it. */
export function authorizingInterceptor(
  options: ServerCallOptions & { readonly authorization: Authorization },
): ServerInterceptor {
  const { callers, authorization, onRefused } = options
  return ({ path }, call) =>
    new ServerInterceptingCall(call, {
      start(next) {
        next({
          onReceiveMetadata(metadata, pass) {
            const caller = callers.find(call.getPeer()) ?? nobody
            authorization.admit(path, caller).then(
              () => pass(metadata),
              (error: unknown) => {
                onRefused({ path, caller, code: codeOf(error) })
                call.sendStatus(replyTo(deniedAt(path, error)))
              },
            )
          },
        })
      },
    })
}

/** Nobody is told: whoever could be has gone. */
const callIsOver = new SentryError('CS_REQUEST_INVALID', 'the call is over')

/** The caller of a connection that is gone. Nothing is done for it: no record could say for whom. */
const nobody: Caller = { kind: 'anonymous', address: '' }

/** SPIRE says the same to everybody; only the details tell an agent what to do. */
function deniedAt(path: string, error: unknown): unknown {
  if (!(error instanceof SentryError) || !error.code.startsWith('CS_AGENT_')) return error
  return new SentryError(error.code, `authorization denied for method ${path}`, { cause: error })
}

/** Most calls never look at their signal, so it is made when one does. */
function unaryContext(call: ServerUnaryCall<unknown, unknown>, caller: Caller): CallContext {
  let signal: AbortSignal | undefined
  return {
    caller,
    get signal() {
      signal ??= signalOf(call)
      return signal
    },
  }
}

function signalOf(call: ServerUnaryCall<unknown, unknown>): AbortSignal {
  const gone = new AbortController()
  if (call.cancelled) gone.abort(callIsOver)
  else call.on('cancelled', () => gone.abort(callIsOver))
  return gone.signal
}

type Stream = ServerDuplexStream<unknown, unknown> | ServerWritableStream<unknown, unknown>

function end(call: Stream, stream: CallContext, reply: () => ReturnType<typeof replyTo>): void {
  if (stream.signal.aborted) return
  const { code, details, metadata } = reply()
  // grpc-js has no other way to end a stream with a status.
  call.emit('error', { code, details, metadata })
}

/** Reads and writes on demand, so that neither side can make the other's messages pile up here. */
function conversation<Request, Response>(
  call: Stream,
  caller: Caller,
): Conversation<Request, Response> {
  const gone = new AbortController()
  const received: Request[] = []
  const arrival = latch({ opened: false })
  let said = false

  call.on('cancelled', () => gone.abort(callIsOver))
  call.on('error', () => gone.abort(callIsOver))
  call.on('close', () => gone.abort(callIsOver))
  gone.signal.addEventListener('abort', () => arrival.open(), { once: true })
  if ('on' in call && 'pause' in call) {
    call.on('data', (message: Request) => {
      received.push(message)
      call.pause()
      arrival.open()
    })
    call.on('end', () => {
      said = true
      arrival.open()
    })
    call.pause()
  }

  return {
    caller,
    signal: gone.signal,
    async read() {
      for (;;) {
        const next = received.shift()
        if (next !== undefined || said) return next
        gone.signal.throwIfAborted()
        if ('resume' in call) call.resume()
        await arrival.passed()
      }
    },
    write: (response) =>
      new Promise((resolve, reject) => {
        if (gone.signal.aborted) {
          reject(gone.signal.reason as Error)
          return
        }
        const onAbort = () => reject(gone.signal.reason as Error)
        gone.signal.addEventListener('abort', onAbort, { once: true })
        // Called once HTTP/2 has taken the message, which is when the reader has made room for it.
        call.write(response, () => {
          gone.signal.removeEventListener('abort', onAbort)
          resolve()
        })
      }),
  }
}
