import {
  type CallOptions,
  type Client,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { type Command, Option } from 'commander'
import type { CliContext } from './context.js'
import { exitCode } from './context.js'
import { CliError, type CliErrorCode } from './errors.js'

const DEFAULT_SOCKET = '/var/lib/countersign/sentry/sentry.sock'
const VARIABLE = 'COUNTERSIGN_SENTRY_SOCKET'
const CALL_TIMEOUT_MS = 30_000

/** Adds `--sentry-socket` and `-o` to a command that asks the sentry. */
export function withSentry(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--sentry-socket <path>',
        `admin socket of the sentry (default: ${DEFAULT_SOCKET})`,
      ).env(VARIABLE),
    )
    .addOption(outputOption())
}

export function outputOption(): Option {
  return new Option('-o, --output <format>', 'how to print the answer')
    .choices(['table', 'json'])
    .default('table')
}

type ClientConstructor<C extends Client> = new (
  address: string,
  creds: ReturnType<typeof credentials.createInsecure>,
) => C

/** A client of one of the sentry's services over its admin socket. */
export function sentryClient<C extends Client>(
  constructor: ClientConstructor<C>,
  socketPath: string | undefined,
): C {
  return new constructor(`unix:${socketPath ?? DEFAULT_SOCKET}`, credentials.createInsecure())
}

type Unary<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, answer: A) => void,
) => ClientUnaryCall

/** The names of a client's unary calls, and what each takes and gives. */
type UnaryName<C> = { [K in keyof C]: C[K] extends Unary<infer _Q, infer _A> ? K : never }[keyof C]
type RequestOf<F> = F extends Unary<infer Q, infer _A> ? Q : never
type AnswerOf<F> = F extends Unary<infer _Q, infer A> ? A : never

export interface AskOptions<Q> {
  readonly request: Q
  readonly context: Pick<CliContext, 'signal'>
  readonly timeoutMs?: number
}

/** One call and its answer. Throws a {@link CliError} whose code and exit say what stood in the way. */
export function ask<C extends Client, N extends UnaryName<C>>(
  client: C,
  name: N,
  { request, context, timeoutMs = CALL_TIMEOUT_MS }: AskOptions<RequestOf<C[N]>>,
): Promise<AnswerOf<C[N]>> {
  return new Promise((resolve, reject) => {
    // gRPC compares it with the clock of the machine, whatever time the command is told.
    const deadline = Date.now() + timeoutMs
    const method = client[name] as Unary<RequestOf<C[N]>, AnswerOf<C[N]>>
    const cancel = () => call.cancel()
    const call = method.call(client, request, new Metadata(), { deadline }, (error, answer) => {
      context.signal.removeEventListener('abort', cancel)
      if (error) reject(errorOf(error))
      else resolve(answer)
    })
    context.signal.addEventListener('abort', cancel, { once: true })
    if (context.signal.aborted) cancel()
  })
}

/** The codes of a sentry's answer, in the words of the command line. */
export function errorOf(error: ServiceError): CliError {
  const { code, exit } = meaningOf(error.code)
  const message =
    code === 'CS_SENTRY_UNREACHABLE' ? 'no sentry answers on its admin socket' : error.details
  return new CliError(code, message, { cause: error, exit })
}

function meaningOf(code: status): {
  code: CliErrorCode
  exit: (typeof exitCode)[keyof typeof exitCode]
} {
  switch (code) {
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
      return { code: 'CS_SENTRY_UNREACHABLE', exit: exitCode.unavailable }
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return { code: 'CS_REQUEST_REFUSED', exit: exitCode.notAuthorised }
    case status.NOT_FOUND:
      return { code: 'CS_NOT_FOUND', exit: exitCode.error }
    default:
      return { code: 'CS_REQUEST_REFUSED', exit: exitCode.error }
  }
}
