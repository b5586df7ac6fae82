import {
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  type Pair,
  Parser,
} from 'yaml'
import { PolicyError, refusal } from './errors.js'
import type { Entry, Located, Place, Scalar } from './located.js'

export interface YamlText {
  readonly text: string
  /** Shown in front of the line of whatever is refused. */
  readonly source: string
}

/** What one text may hold. A mesh has many policies, but nobody writes these by hand into one file. */
const MAX_BYTES = 4 * 1024 * 1024
const MAX_DOCUMENTS = 20_000
/** Depth of the parser's stack: about twice that of the maps and lists. */
const MAX_STACK = 48

/**
 * Reads YAML 1.2 (and so JSON), one or more documents; empty ones are left out. Bounded in size and
 * depth; anchors, aliases and tags are refused, so that no text grows when it is read. Throws
 * `CS_POLICY_MALFORMED`, and `CS_POLICY_DUPLICATE` for a field that is there twice.
 */
export function readYaml({ text, source }: YamlText): readonly Located[] {
  if (text.length > MAX_BYTES) {
    throw new PolicyError('CS_POLICY_MALFORMED', `${source}: longer than ${MAX_BYTES} bytes`)
  }
  const lines = new LineCounter()
  lines.addNewLine(0)
  const reader: Reader = {
    source,
    placeAt: (offset) => {
      const { line, col } = lines.linePos(offset)
      return { line, column: col }
    },
  }
  const composer = new Composer({
    lineCounter: lines,
    version: '1.2',
    schema: 'core',
    strict: true,
    stringKeys: true,
    prettyErrors: false,
    // Ours is linear; the library's own search for twins is quadratic.
    uniqueKeys: false,
  })
  const documents: Located[] = []
  for (const document of composer.compose(tokensOf(text, { lines, reader }), true, text.length)) {
    const content = contentOf(document, reader)
    if (content !== undefined) documents.push(content)
    if (documents.length > MAX_DOCUMENTS) {
      throw new PolicyError(
        'CS_POLICY_MALFORMED',
        `${source}: more than ${MAX_DOCUMENTS} documents`,
      )
    }
  }
  return documents
}

interface Reader {
  readonly source: string
  placeAt(offset: number): Place
}

/** Drives the tokeniser by hand, because the library's own descent ends the process on a deep text. */
function* tokensOf(
  text: string,
  { lines, reader }: { readonly lines: LineCounter; readonly reader: Reader },
): Generator<CST.Token> {
  const parser = new Parser(lines.addNewLine)
  for (const lexeme of new Lexer().lex(text)) {
    yield* parser.next(lexeme)
    if (parser.stack.length > MAX_STACK) throw malformed(reader, parser.offset, 'nested too deeply')
  }
  yield* parser.end()
}

function contentOf(document: Document.Parsed, reader: Reader): Located | undefined {
  const [error] = document.errors
  if (error) throw malformed(reader, error.pos[0], firstLine(error.message))
  if (document.contents === null) return undefined
  const content = locatedOf(document.contents, reader)
  return content.kind === 'scalar' && content.value === null ? undefined : content
}

function locatedOf(node: Node, reader: Reader): Located {
  const offset = node.range?.[0] ?? 0
  if (isAlias(node) || node.anchor)
    throw malformed(reader, offset, 'anchors and aliases are not read')
  if (node.tag !== undefined && !PLAIN_TAGS.has(node.tag)) {
    throw malformed(reader, offset, `tags are not read: ${node.tag}`)
  }
  const place = reader.placeAt(offset)
  if (isMap<Node, Node | null>(node))
    return { kind: 'map', place, entries: entriesOf(node.items, reader) }
  if (isSeq<Node>(node)) {
    return { kind: 'list', place, items: node.items.map((item) => locatedOf(item, reader)) }
  }
  return { kind: 'scalar', place, value: scalarOf(node, reader) }
}

/** What the core schema makes of a text without tags. */
const PLAIN_TAGS: ReadonlySet<string> = new Set(
  ['map', 'seq', 'str', 'int', 'float', 'bool', 'null'].map((name) => `tag:yaml.org,2002:${name}`),
)

function entriesOf(
  pairs: readonly Pair<Node, Node | null>[],
  reader: Reader,
): ReadonlyMap<string, Entry> {
  const entries = new Map<string, Entry>()
  for (const { key, value } of pairs) {
    const place = reader.placeAt(key.range?.[0] ?? 0)
    const name = String(scalarOf(key, reader))
    if (entries.has(name)) {
      const problem = {
        source: reader.source,
        ...place,
        field: name,
        message: 'field is there twice',
      }
      throw refusal([{ code: 'CS_POLICY_DUPLICATE', ...problem }])
    }
    entries.set(name, {
      place,
      value: value === null ? nothingAt(place) : locatedOf(value, reader),
    })
  }
  return entries
}

const nothingAt = (place: Place): Located => ({ kind: 'scalar', place, value: null })

function scalarOf(node: Node, reader: Reader): Scalar {
  const value: unknown = isScalar(node) ? node.value : undefined
  switch (typeof value) {
    case 'string':
    case 'number':
    case 'boolean':
      return value
    case 'object':
      if (value === null) return null
      break
    default:
  }
  throw malformed(reader, node.range?.[0] ?? 0, 'not a text, number, truth value, map or list')
}

function malformed({ source, placeAt }: Reader, offset: number, message: string): PolicyError {
  const problem = { source, ...placeAt(offset), field: '', message: lowerFirst(message) }
  return refusal([{ code: 'CS_POLICY_MALFORMED', ...problem }])
}

const firstLine = (text: string) => text.split('\n', 1)[0] ?? text
const lowerFirst = (text: string) => text.charAt(0).toLowerCase() + text.slice(1)
