import type { Reason } from '../spiffe/index.js'

/** What can be wrong with a policy document or with a snapshot of them. */
export const policyReasons = {
  CS_POLICY_MALFORMED: {
    severity: 'error',
    what: 'A policy file is not YAML or JSON that can be read safely.',
    todo: 'Correct the line in the message; anchors, aliases and tags are not read, and size and depth are limited.',
  },
  CS_POLICY_INVALID: {
    severity: 'error',
    what: 'A policy document has a field that is unknown, missing or holds what it cannot hold.',
    todo: 'Correct the field in the message; docs/policies.md lists what each field takes.',
  },
  CS_POLICY_UNSUPPORTED: {
    severity: 'error',
    what: 'A policy document uses a part of the language that this version does not enforce.',
    todo: 'Leave the named field out, or upgrade; a field that is not enforced is never ignored.',
  },
  CS_POLICY_PATTERN_INVALID: {
    severity: 'error',
    what: 'A path, gRPC method or SPIFFE ID pattern is not one that the language can say.',
    todo: 'Write whole segments: a literal in its canonical spelling, {*} for one segment, {**} last for the rest.',
  },
  CS_POLICY_DUPLICATE: {
    severity: 'error',
    what: 'Two documents, or two rules of one document, have the same name.',
    todo: 'Rename one of them; logs and metrics tell rules apart by <policy>/<rule>.',
  },
  CS_POLICY_GUARDRAIL_ALLOWS: {
    severity: 'error',
    what: 'A Guardrail has a rule that allows; guardrails only deny.',
    todo: 'Set action: deny, or put the rule into an AccessPolicy of the namespace.',
  },
  CS_POLICY_TEST_FAILED: {
    severity: 'error',
    what: 'A PolicyTest does not hold for the documents that were about to be stored.',
    todo: 'Run countersign policy test with the same files; it shows each case and the rule that decided.',
  },
  CS_SNAPSHOT_INVALID: {
    severity: 'error',
    what: 'A policy snapshot cannot be used; the last good one stays in force.',
    todo: 'Look at the message and at the version of the sentry that made the snapshot.',
  },
  CS_SNAPSHOT_INCOMPATIBLE: {
    severity: 'error',
    what: 'A policy snapshot needs a feature that this proxy does not have; the last good one stays in force.',
    todo: 'Upgrade the proxy before the policy that uses the feature.',
  },
} as const satisfies Record<string, Reason>

export type PolicyErrorCode = keyof typeof policyReasons

/** One thing wrong with a document: where, what, and the nearest thing that would be right. */
export interface Problem {
  readonly code: PolicyErrorCode
  /** The file name or another name for the text. */
  readonly source: string
  /** Counted from 1; 0 when the text came without lines. */
  readonly line: number
  readonly column: number
  /** Path of the field from the document's root, such as `spec.rules[0].from[1].app`. */
  readonly field: string
  readonly message: string
  readonly hint?: string
}

/** A document or snapshot that is refused. `code` is stable; `message` is for people and may change. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError'
  readonly code: PolicyErrorCode
  /** Everything that was found wrong, in the order of the text. */
  readonly problems: readonly Problem[]

  constructor(
    code: PolicyErrorCode,
    message: string,
    options?: ErrorOptions & { problems?: readonly Problem[] },
  ) {
    super(message, options)
    this.code = code
    this.problems = options?.problems ?? []
  }
}

/** The error for one or more problems; its code and text are those of the first. */
export function refusal(problems: readonly [Problem, ...Problem[]]): PolicyError {
  const [first, ...more] = problems
  const rest = more.length === 0 ? '' : ` (and ${more.length} more)`
  return new PolicyError(first.code, `${problemText(first)}${rest}`, { problems })
}

/** `orders.yaml:12:9: spec.rules[0].frm: unknown field; did you mean "from"?` */
export function problemText({ source, line, column, field, message, hint }: Problem): string {
  const place = line === 0 ? source : `${source}:${line}:${column}`
  const where = field === '' ? place : `${place}: ${field}`
  return `${where}: ${message}${hint === undefined ? '' : `; ${hint}`}`
}

const allowed = { severity: 'info' } as const
const denied = { severity: 'warning' } as const
const malformed = {
  severity: 'warning',
  todo: 'Let the client send the path in its plain spelling.',
} as const

/** Why a request was let through or refused: the words that logs, metrics and `explain` use. */
export const decisionReasons = {
  'allow-rule': { ...allowed, what: 'An allow rule names the call.', todo: 'Nothing.' },
  'deny-rule': {
    ...denied,
    what: 'A deny rule names the call; it wins over every allow rule.',
    todo: 'If the call is wanted, narrow the deny rule named in the log.',
  },
  guardrail: {
    ...denied,
    what: 'A guardrail of the mesh administrators denies the call.',
    todo: 'Ask the owner of the guardrail named in the log; no policy of an app can override it.',
  },
  'no-rule': {
    ...denied,
    what: 'No rule names the call, and what no rule names is denied.',
    todo: 'Run countersign policy explain; it prints the smallest rule that would allow the call.',
  },
  'no-snapshot': {
    ...denied,
    what: 'The proxy has never received a policy for its app.',
    todo: 'Check that the proxy reaches its agent and the agent its sentry.',
  },
  unauthenticated: {
    ...denied,
    what: 'The caller has no verified SPIFFE ID; the detail in the log says why.',
    todo: 'Give the caller an SVID, or allow it by from: [{ unauthenticated: true }].',
  },
  'malformed:not_origin_form': {
    ...malformed,
    what: 'The request target does not start with a slash.',
  },
  'malformed:bad_byte': {
    ...malformed,
    what: 'The request target has a byte outside of printable ASCII.',
  },
  'malformed:fragment': { ...malformed, what: 'The request target has a #.' },
  'malformed:backslash': { ...malformed, what: 'The request target has a backslash.' },
  'malformed:bad_escape': {
    ...malformed,
    what: 'A % in the path is not followed by two hex digits.',
  },
  'malformed:encoded_control': { ...malformed, what: 'The path has an encoded control character.' },
  'malformed:encoded_slash': { ...malformed, what: 'The path has an encoded slash or backslash.' },
  'malformed:encoded_delimiter': { ...malformed, what: 'The path has an encoded ? or #.' },
  'malformed:double_encoding': { ...malformed, what: 'The path is percent-encoded twice.' },
  'malformed:path_parameter': { ...malformed, what: 'The path has a semicolon, plain or encoded.' },
  'malformed:dot_segment': {
    ...malformed,
    what: 'The path has a . or .. segment, plain or encoded.',
  },
  'malformed:bad_method': {
    ...malformed,
    what: 'The method is not an upper-case token.',
    todo: 'Let the client send the method in upper case.',
  },
  'malformed:host_conflict': {
    ...malformed,
    what: 'The request names more than one host.',
    todo: 'Let the client send one Host header that agrees with :authority.',
  },
} as const satisfies Record<string, Reason>
