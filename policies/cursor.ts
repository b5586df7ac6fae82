import { type PolicyErrorCode, type Problem, refusal } from './errors.js'
import type { Located, Place, Scalar } from './located.js'
import { nearestName } from './nearest.js'

/** A value of a document under its name, and where to say what is wrong with it. */
export interface Cursor {
  readonly node: Located
  /** Path from the document's root: `spec.rules[0].from`. */
  readonly field: string
  readonly findings: Findings
}

/** What is wrong with one document. Reading goes on after a problem, so that one look shows them all. */
export interface Findings {
  readonly source: string
  readonly problems: Problem[]
}

export interface Fault {
  readonly message: string
  readonly hint?: string | undefined
  readonly code?: PolicyErrorCode
}

/** More problems than these say nothing new. */
const MAX_PROBLEMS = 20

export function report({ node, field, findings }: Cursor, fault: Fault): void {
  reportAt(node.place, { field, findings, fault })
}

/** Throws what was found, if anything was. */
export function throwFindings({ problems }: Findings): void {
  const [first, ...more] = problems
  if (first !== undefined) throw refusal([first, ...more])
}

/** The fields of a map by name. */
export interface Fields {
  readonly cursor: Cursor
  get(name: string): Cursor | undefined
}

export interface FieldNames {
  readonly known: readonly string[]
  /** Parts of the language that this version does not enforce yet. */
  readonly later?: readonly string[]
}

/** Reads a map and refuses every field that is not one of `known`. */
export function fieldsOf(cursor: Cursor, { known, later = [] }: FieldNames): Fields {
  const { node, field, findings } = cursor
  if (node.kind !== 'map') {
    report(cursor, { message: `must be a map with ${known.join(', ')}, not ${nameOf(node)}` })
    return { cursor, get: () => undefined }
  }
  for (const [name, { place }] of node.entries) {
    if (known.includes(name)) continue
    reportAt(place, {
      field: join(field, name),
      findings,
      fault: unknownField(name, { known, later }),
    })
  }
  return {
    cursor,
    get(name) {
      const entry = node.entries.get(name)
      return entry && { node: entry.value, field: join(field, name), findings }
    },
  }
}

/** A field that must be there; what stands in for a missing one is never looked at again. */
export function required<T>(
  fields: Fields,
  name: string,
  read: (cursor: Cursor) => T,
): T | undefined {
  const cursor = fields.get(name)
  if (cursor !== undefined) return read(cursor)
  const { node, field, findings } = fields.cursor
  if (node.kind === 'map') {
    reportAt(node.place, { field: join(field, name), findings, fault: { message: 'is missing' } })
  }
  return undefined
}

export function optional<T>(
  fields: Fields,
  name: string,
  read: (cursor: Cursor) => T,
): T | undefined {
  const cursor = fields.get(name)
  return cursor && read(cursor)
}

/** The items of a list that has at least one. */
export function itemsOf(cursor: Cursor): readonly Cursor[] {
  const { node, field, findings } = cursor
  if (node.kind !== 'list') {
    report(cursor, { message: `must be a list, not ${nameOf(node)}` })
    return []
  }
  if (node.items.length === 0) report(cursor, { message: 'must not be empty' })
  return node.items.map((item, at) => ({ node: item, field: `${field}[${at}]`, findings }))
}

/** A text; YAML makes something else of `123` and `true`, and the message says so. */
export function textOf(cursor: Cursor): string {
  const { node } = cursor
  if (node.kind === 'scalar' && typeof node.value === 'string') return node.value
  const hint =
    node.kind === 'scalar' && node.value !== null
      ? `put it into quotes: "${node.value}"`
      : undefined
  report(cursor, { message: `must be a text, not ${nameOf(node)}`, hint })
  return ''
}

/** A text that `read` takes; what it throws is reported here. */
export function textThat<T>(cursor: Cursor, read: (text: string) => T): T | undefined {
  const before = cursor.findings.problems.length
  const text = textOf(cursor)
  if (cursor.findings.problems.length > before) return undefined
  try {
    return read(text)
  } catch (error) {
    report(cursor, { message: error instanceof Error ? error.message : String(error) })
    return undefined
  }
}

export function oneOf<const T extends string>(cursor: Cursor, values: readonly T[]): T | undefined {
  const text = textOf(cursor)
  const found = values.find((value) => value === text)
  if (found === undefined && text !== '') {
    const near = nearestName(text, values)
    report(cursor, {
      message: `must be ${values.join(' or ')}, not ${quoted(text)}`,
      hint: near && `did you mean "${near}"?`,
    })
  }
  return found
}

/** A field that is only ever `true`: leaving it out is how to say no. */
export function trueOf(cursor: Cursor): true | undefined {
  const { node } = cursor
  if (node.kind === 'scalar' && node.value === true) return true
  report(cursor, {
    message: `must be true, not ${nameOf(node)}`,
    hint: 'leave the field out instead',
  })
  return undefined
}

export function scalarOf({ node }: Cursor): Scalar | undefined {
  return node.kind === 'scalar' ? node.value : undefined
}

/** Quotes what a document says, cut so that a message stays one line. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
}

function unknownField(name: string, { known, later = [] }: FieldNames): Fault {
  if (later.includes(name)) {
    return {
      code: 'CS_POLICY_UNSUPPORTED',
      message: 'this version does not enforce this field yet',
    }
  }
  const near = nearestName(name, [...known, ...later])
  const hint = near === undefined ? `fields here: ${known.join(', ')}` : `did you mean "${near}"?`
  return { message: 'unknown field', hint }
}

function reportAt(
  place: Place,
  { field, findings, fault }: { field: string; findings: Findings; fault: Fault },
): void {
  if (findings.problems.length >= MAX_PROBLEMS) return
  const { message, hint, code = 'CS_POLICY_INVALID' } = fault
  const { source, problems } = findings
  problems.push({ code, source, ...place, field, message, ...(hint === undefined ? {} : { hint }) })
}

function join(field: string, name: string): string {
  const shown = /^[\w-]{1,64}$/.test(name) ? name : quoted(name)
  return field === '' ? shown : `${field}.${shown}`
}

function nameOf(node: Located): string {
  if (node.kind !== 'scalar') return `a ${node.kind}`
  if (node.value === null) return 'nothing'
  return typeof node.value === 'string' ? quoted(node.value) : String(node.value)
}
