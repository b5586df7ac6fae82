import { isMethod } from './canonical.js'
import {
  type Cursor,
  type Fields,
  fieldsOf,
  itemsOf,
  oneOf,
  optional,
  quoted,
  report,
  required,
  textOf,
  trueOf,
} from './cursor.js'
import { nameOf, patternOf, segmentOf, timeOf, trustDomainOf } from './parse-names.js'
import { grpcPatternFault, pathPatternFault } from './pattern.js'
import type { Action, Operation, Rule, Selector } from './policy.js'
import { sourceFault } from './selectors.js'
import { combinationsOf } from './weight.js'

/** A rule becomes one entry per source and pattern; more than these of one rule are refused. */
const MAX_COMBINATIONS = 65_536
const MAX_METHODS = 32
const MAX_REASON = 1024

export interface RuleOwner {
  readonly kind: 'AccessPolicy' | 'Guardrail'
}

/** The rules of a document, at least one, each under a name of its own. */
export function rulesOf(cursor: Cursor, owner: RuleOwner): readonly Rule[] {
  const names = new Set<string>()
  return itemsOf(cursor).map((item) => {
    const rule = ruleOf(item, owner)
    if (names.has(rule.name) && rule.name !== '') {
      const message = `a rule named ${quoted(rule.name)} is there already`
      report(item, { code: 'CS_POLICY_DUPLICATE', message })
    }
    names.add(rule.name)
    return rule
  })
}

function ruleOf(cursor: Cursor, owner: RuleOwner): Rule {
  const fields = fieldsOf(cursor, {
    known: ['name', 'action', 'mode', 'from', 'to', 'notBefore', 'expires', 'reason'],
    later: ['when', 'limit'],
  })
  const rule: Rule = {
    name: required(fields, 'name', nameOf) ?? '',
    action: actionOf(fields, owner),
    mode: optional(fields, 'mode', modeOf) ?? 'enforce',
    from:
      required(fields, 'from', (from) => itemsOf(from).map((item) => selectorOf(item, owner))) ??
      [],
    to: optional(fields, 'to', (to) => itemsOf(to).map(operationOf)),
    notBefore: optional(fields, 'notBefore', timeOf),
    expires: optional(fields, 'expires', timeOf),
    reason: optional(fields, 'reason', reasonOf),
  }
  reportImpossible(cursor, rule)
  return rule
}

export const modeOf = (cursor: Cursor) => oneOf(cursor, ['enforce', 'shadow'])

function actionOf(fields: Fields, { kind }: RuleOwner): Action {
  const action = optional(fields, 'action', (cursor) => oneOf(cursor, ['allow', 'deny'])) ?? 'allow'
  if (kind === 'Guardrail' && action === 'allow') {
    report(fields.get('action') ?? fields.cursor, {
      code: 'CS_POLICY_GUARDRAIL_ALLOWS',
      message: 'a guardrail only denies, and a rule without an action allows',
      hint: 'write action: deny',
    })
  }
  return action
}

function reportImpossible(cursor: Cursor, { notBefore, expires, from, to }: Rule): void {
  if (notBefore !== undefined && expires !== undefined && notBefore >= expires) {
    report(cursor, { message: 'notBefore must be earlier than expires' })
  }
  if (combinationsOf({ from, to }) > MAX_COMBINATIONS) {
    const message = `from and to make more than ${MAX_COMBINATIONS} combinations`
    report(cursor, { message, hint: 'divide the rule, or name a namespace instead of its apps' })
  }
}

function reasonOf(cursor: Cursor): string {
  const text = textOf(cursor)
  if (text.length > MAX_REASON)
    report(cursor, { message: `must be at most ${MAX_REASON} characters` })
  return text
}

const SELECTORS = ['app', 'namespace', 'trustDomain', 'spiffeId', 'any', 'unauthenticated']

function selectorOf(cursor: Cursor, { kind }: RuleOwner): Selector {
  const fields = fieldsOf(cursor, { known: SELECTORS })
  const trustDomain = optional(fields, 'trustDomain', trustDomainOf)
  const namespace = optional(fields, 'namespace', segmentOf)
  const app = optional(fields, 'app', segmentOf)
  const alone = optional(fields, 'spiffeId', spiffeIdOf) ?? wideSelectorOf(fields)

  if (alone !== undefined) {
    reportCompany(fields, alone)
    return alone
  }
  if (app !== undefined) {
    if (kind === 'Guardrail' && namespace === undefined) {
      report(cursor, {
        message: 'a guardrail has no namespace of its own',
        hint: 'add namespace beside app',
      })
    }
    return { kind: 'app', app, namespace, trustDomain }
  }
  if (namespace !== undefined) return { kind: 'namespace', namespace, trustDomain }
  if (trustDomain !== undefined) return { kind: 'trustDomain', trustDomain }
  if (cursor.node.kind === 'map' && cursor.node.entries.size === 0) {
    report(cursor, { message: 'must name a caller', hint: `fields here: ${SELECTORS.join(', ')}` })
  }
  return { kind: 'unauthenticated' }
}

const spiffeIdOf = (cursor: Cursor): Selector => ({
  kind: 'spiffeId',
  pattern: patternOf(cursor, sourceFault),
})

function wideSelectorOf(fields: Fields): Selector | undefined {
  if (optional(fields, 'any', trueOf) !== undefined) return { kind: 'any' }
  if (optional(fields, 'unauthenticated', trueOf) !== undefined) return { kind: 'unauthenticated' }
  return undefined
}

function reportCompany(fields: Fields, { kind }: Selector): void {
  for (const name of SELECTORS) {
    const beside = name === kind ? undefined : fields.get(name)
    if (beside !== undefined) {
      report(beside, {
        message: `cannot stand beside ${kind}`,
        hint: 'make it an element of its own',
      })
    }
  }
}

const OPERATIONS = ['methods', 'paths', 'grpc', 'tcp']

function operationOf(cursor: Cursor): Operation {
  const fields = fieldsOf(cursor, { known: OPERATIONS })
  const methods = optional(fields, 'methods', methodsOf)
  const paths = optional(fields, 'paths', (list) => listOf(list, pathPatternFault))
  const grpc = optional(fields, 'grpc', (list) => listOf(list, grpcPatternFault))
  const tcp = optional(fields, 'tcp', trueOf)

  const kinds = [methods ?? paths, grpc, tcp].filter((part) => part !== undefined)
  if (kinds.length > 1) {
    report(cursor, {
      message: 'is HTTP, gRPC or TCP, not several',
      hint: 'make each an element of its own',
    })
  }
  if (tcp !== undefined) return { kind: 'tcp' }
  if (grpc !== undefined) return { kind: 'grpc', methods: grpc }
  return { kind: 'http', methods, paths }
}

const listOf = (cursor: Cursor, faultOf: Parameters<typeof patternOf>[1]) =>
  itemsOf(cursor).map((item) => patternOf(item, faultOf))

function methodsOf(cursor: Cursor): readonly string[] {
  const items = itemsOf(cursor)
  if (items.length > MAX_METHODS)
    report(cursor, { message: `must have at most ${MAX_METHODS} items` })
  return items.map((item) => {
    const text = textOf(item)
    if (text !== '' && !isMethod(text)) report(item, methodFault(text))
    return text
  })
}

function methodFault(text: string): { readonly message: string; readonly hint?: string } {
  const message = `${quoted(text)} is not a method in upper case`
  if (text === '*') return { message, hint: 'leave methods out for any method' }
  const upper = text.toUpperCase()
  return isMethod(upper) ? { message, hint: `did you mean ${upper}?` } : { message }
}
