import type { Clock } from '../platform/clock.js'
import { type Decision, type MalformedCode, malformedDecision } from '../policies/index.js'
import { type AccessLog, jsonText, numberField, textField } from './access-log.js'
import { type AnswerOptions, answerOf, grpcStatus } from './answers.js'
import type {
  Answer,
  CloseReason,
  Exchange,
  Requester,
  RequestHandler,
  RequestHead,
  Responder,
} from './exchange.js'
import { type Failure, failureReasons } from './failures.js'
import { headerOf, isGrpc } from './headers.js'
import { type WireFault, wireFaults } from './http1/wire-fault.js'
import type { Secure, TunnelMeter } from './metrics.js'

/** What becomes of a request. */
export type Judgement =
  | {
      readonly kind: 'forward'
      readonly path: string
      readonly decision: Decision | undefined
      /** The policy that it is the answer of. */
      readonly snapshotId: string | undefined
      /** The peer that is asked, once it is known. */
      to(): string | undefined
      send(requester: Requester): Responder | Failure
      stillAllowed(): boolean
    }
  | {
      readonly kind: 'deny'
      readonly path: string
      readonly decision: Decision
      readonly snapshotId: string | undefined
    }
  | { readonly kind: 'malformed'; readonly code: MalformedCode | WireFault }
  | { readonly kind: 'fail'; readonly failure: Failure }

/** Decides on the requests of one connection. */
export interface Gate {
  judge(head: RequestHead): Judgement
}

/** What the exchanges of one connection have in common. */
export interface HttpContext {
  readonly gate: Gate
  readonly clock: Clock
  readonly log: AccessLog
  readonly meter: TunnelMeter
  /** The beginning of every line of this connection: fields, each with its comma. */
  readonly fields: string
  readonly callerNamespace: string
  readonly secure: Secure
  nextId(): string
}

export function httpHandler(context: HttpContext): RequestHandler {
  return {
    open: (head) => new HttpExchange(context, head),
    openUnreadable: () => new HttpExchange(context, undefined),
  }
}

type Refusal = Omit<AnswerOptions, 'decisionId' | 'isGrpc'>

class HttpExchange implements Exchange {
  bytesIn = 0
  bytesOut = 0
  readonly #context: HttpContext
  readonly #head: RequestHead | undefined
  readonly #id: string
  readonly #started: bigint
  #decided = 0n
  #responded = 0n
  #status = 0
  #judgement: Judgement | undefined
  #failure: Failure | undefined
  #ended: CloseReason | undefined
  #over = false

  constructor(context: HttpContext, head: RequestHead | undefined) {
    this.#context = context
    this.#head = head
    this.#id = context.nextId()
    this.#started = context.clock.hrtime()
  }

  start(requester: Requester): { readonly responder: Responder } | { readonly answer: Answer } {
    const { gate, clock } = this.#context
    const judgement: Judgement = this.#head
      ? gate.judge(this.#head)
      : { kind: 'malformed', code: 'bad_request_line' }
    this.#judgement = judgement
    this.#decided = clock.hrtime()
    switch (judgement.kind) {
      case 'forward': {
        const started = judgement.send(requester)
        return 'code' in started ? { answer: this.answerTo(started) } : { responder: started }
      }
      case 'deny':
        return { answer: this.#answer(DENIED) }
      case 'malformed':
        return { answer: this.#answer(refusalOf(judgement.code)) }
      case 'fail':
        return { answer: this.answerTo(judgement.failure) }
    }
  }

  answerTo(failure: Failure): Answer {
    this.#failure = failure
    this.#ended = 'upstream'
    const { status, grpc } = failureReasons[failure.code]
    const kind = failure.code === 'no-route' ? 'no-route' : 'unavailable'
    return this.#answer({ status, grpc, kind })
  }

  malformed(fault: WireFault): Answer {
    this.#judgement = { kind: 'malformed', code: fault }
    this.#ended = 'malformed'
    return this.#answer(refusalOf(fault))
  }

  responded(status: number): void {
    this.#status = status
    this.#responded = this.#context.clock.hrtime()
  }

  stillAllowed(): boolean {
    return this.#judgement?.kind !== 'forward' || this.#judgement.stillAllowed()
  }

  finished(how: CloseReason): void {
    if (this.#over) return
    this.#over = true
    const { meter, clock, log } = this.#context
    const ended = how === 'complete' ? (this.#ended ?? how) : how
    const total = Number(clock.hrtime() - this.#started)
    const deciding = this.#decided === 0n ? 0 : Number(this.#decided - this.#started)
    const upstream = this.#upstreamTime()
    meter.secure(this.#context.secure)
    meter.request(this.#status, { total, deciding, upstream })
    meter.bytes(this.bytesIn, this.bytesOut)
    meter.ended(ended)
    const decision = this.#decision()
    if (decision) meter.decision(decision, this.#context.callerNamespace)
    if (this.#judgement?.kind === 'malformed') meter.malformed(this.#judgement.code)
    if (log.mode === 'off' || (log.mode === 'denied' && this.#isOrdinary(ended))) return
    log.write(
      `${this.#context.fields}${this.#requestFields()}"status":${this.#status},"bytes_in":${this.bytesIn},"bytes_out":${this.bytesOut},"duration_ns":${total},"overhead_ns":${total - upstream},"decision_ns":${deciding},"close_reason":"${ended}"`,
    )
  }

  #answer(refusal: Refusal): Answer {
    const grpc = this.#head !== undefined && isGrpc(this.#head.headers)
    return answerOf({ ...refusal, decisionId: this.#id, isGrpc: grpc })
  }

  #isOrdinary(ended: CloseReason): boolean {
    return this.#judgement?.kind === 'forward' && ended === 'complete'
  }

  /** Between the decision and the head of the response. */
  #upstreamTime(): number {
    const forwarded = this.#judgement?.kind === 'forward' && this.#failure === undefined
    return forwarded && this.#responded !== 0n ? Number(this.#responded - this.#decided) : 0
  }

  #decision(): Decision | undefined {
    const judgement = this.#judgement
    if (!judgement || judgement.kind === 'fail') return undefined
    if (judgement.kind !== 'malformed') return judgement.decision
    return isPolicyCode(judgement.code) ? malformedDecision(judgement.code) : undefined
  }

  #requestFields(): string {
    const head = this.#head
    const judgement = this.#judgement
    let fields = `"decision_id":"${this.#id}",`
    if (head) fields += `"method":${jsonText(head.method)},`
    switch (judgement?.kind) {
      case 'forward':
      case 'deny':
        fields += `"path":${jsonText(judgement.path)},${decisionFields(judgement.decision)}`
        fields += textField('snapshot_id', judgement.snapshotId)
        if (judgement.kind === 'forward') fields += textField('to', judgement.to())
        break
      case 'malformed':
        fields += `"decision":"deny","reason":"malformed:${judgement.code}",`
        break
      case 'fail':
      case undefined:
        break
    }
    if (this.#failure) {
      fields += textField('failure', this.#failure.code)
      fields += textField('failure_detail', this.#failure.detail)
    }
    return fields + traceField(head)
  }
}

const DENIED: Refusal = { status: 403, grpc: grpcStatus.permissionDenied, kind: 'denied' }

function refusalOf(code: MalformedCode | WireFault): Refusal {
  const status = isPolicyCode(code) ? 400 : wireFaults[code].status
  return { status, grpc: grpcStatus.invalidArgument, kind: 'malformed' }
}

function isPolicyCode(code: MalformedCode | WireFault): code is MalformedCode {
  return !(code in wireFaults)
}

/** The fields of a decision are the same for all requests that it is the answer to. */
const rendered = new WeakMap<Decision, string>()

export function decisionFields(decision: Decision | undefined): string {
  if (!decision) return ''
  const known = rendered.get(decision)
  if (known !== undefined) return known
  const fields = renderDecision(decision)
  rendered.set(decision, fields)
  return fields
}

function renderDecision(decision: Decision): string {
  const { effect, reason, shadow } = decision
  let fields = `"decision":"${effect}","reason":"${reason}",`
  if ('detail' in decision) fields += textField('detail', decision.detail)
  if ('rule' in decision) {
    fields += textField(reason === 'guardrail' ? 'guardrail' : 'policy', decision.policy)
    fields += textField('rule', decision.rule) + textField('matched_pattern', decision.pattern)
  }
  if (shadow) {
    fields += `"shadow":{${textField('result', shadow.effect)}${textField('policy', shadow.policy)}"rule":${jsonText(shadow.rule)}},`
  }
  return fields
}

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/

function traceField(head: RequestHead | undefined): string {
  const traceparent = head && headerOf(head.headers, 'traceparent')
  return traceparent ? textField('trace_id', TRACEPARENT.exec(traceparent)?.[1]) : ''
}

/** The fields of a connection that come before all others. */
export function connectionFields(fields: {
  readonly tunnel: string
  readonly protocol: string
  readonly caller?: string | undefined
  readonly caller_serial?: string | undefined
  readonly caller_expires?: string | undefined
  readonly target?: string | undefined
  readonly to?: string | undefined
  readonly tls_version?: string | undefined
  readonly tls_group?: string | undefined
  readonly port?: number | undefined
}): string {
  const { port, ...texts } = fields
  const parts = Object.entries(texts).map(([name, value]) => textField(name, value))
  return parts.join('') + numberField('port', port)
}
