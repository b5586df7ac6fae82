import type { Answer, Headers } from './exchange.js'

/** What a caller is told when the proxy answers in the app's place. Names of rules and callers stay out. */
export interface AnswerOptions {
  readonly status: number
  /** The gRPC status that says the same. */
  readonly grpc: number
  readonly kind: 'denied' | 'malformed' | 'no-route' | 'unavailable'
  readonly decisionId: string
  readonly isGrpc: boolean
}

export const grpcStatus = {
  invalidArgument: 3,
  permissionDenied: 7,
} as const

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  431: 'Request Header Fields Too Large',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
}

const NOTHING = Buffer.alloc(0)

/** `policy-language` says the shape: problem+json with the id of the decision, or a gRPC status. */
export function answerOf(options: AnswerOptions): Answer {
  return options.isGrpc ? grpcAnswer(options) : problemAnswer(options)
}

function problemAnswer({ status, kind, decisionId }: AnswerOptions): Answer {
  const content = Buffer.from(
    JSON.stringify({ type: `urn:countersign:${kind}`, decision_id: decisionId }),
  )
  const headers: Headers = [
    'content-type',
    'application/problem+json',
    'x-countersign-decision',
    decisionId,
  ]
  const head = { status, reason: REASONS[status] ?? '', headers, body: content.length }
  return { head, content, isLast: kind === 'malformed' }
}

/** A response that consists of its head alone, as gRPC answers a call that never began. */
function grpcAnswer({ grpc, kind, decisionId }: AnswerOptions): Answer {
  const headers: Headers = [
    'content-type',
    'application/grpc',
    'grpc-status',
    String(grpc),
    'grpc-message',
    `${kind}, decision ${decisionId}`,
    'x-countersign-decision',
    decisionId,
  ]
  const head = { status: 200, reason: 'OK', headers, body: 'none' } as const
  return { head, content: NOTHING, isLast: kind === 'malformed' }
}
