import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  documentKey,
  documentName,
  type PolicyDocument,
  parseDocuments,
} from '../../policies/index.js'
import type { CliContext } from '../context.js'
import { CliError } from '../errors.js'
import { readInput } from '../read-input.js'

/** What files say, read and checked on this side so that a mistake is shown with its line. */
export interface DocumentFiles {
  readonly documents: readonly PolicyDocument[]
  /** The names of the files, for messages. */
  readonly source: string
}

const MAX_BYTES = 4 * 1024 * 1024
const EXTENSION = /\.(ya?ml|json)$/i

/** Reads files, folders of files and (as `-`) standard input. Throws `CS_POLICY_…` and `CS_USAGE`. */
export async function readDocuments(
  paths: readonly string[],
  context: Pick<CliContext, 'stdin'>,
): Promise<DocumentFiles> {
  const files = (await Promise.all(paths.map(filesBelow))).flat()
  const documents: PolicyDocument[] = []
  const origins = new Map<string, string>()
  for (const file of files) {
    for (const document of parseDocuments(await textOf(file, context), file)) {
      assertNew(document, { file, origins })
      documents.push(document)
    }
  }
  const [first = '-', ...more] = files
  const source = more.length === 0 ? first : `${first} and ${more.length} more`
  if (documents.length === 0) throw new CliError('CS_USAGE', `there is no document in ${source}`)
  return { documents, source }
}

async function filesBelow(path: string): Promise<readonly string[]> {
  if (path === '-') return [path]
  const found = await stat(path).catch((cause: unknown) => unreadable(path, cause))
  if (!found.isDirectory()) return [path]
  const entries = await readdir(path, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile() && EXTENSION.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

async function textOf(file: string, context: Pick<CliContext, 'stdin'>): Promise<string> {
  if (file === '-') return (await readInput(context, MAX_BYTES)).toString('utf8')
  return readFile(file, 'utf8').catch((cause: unknown) => unreadable(file, cause))
}

function unreadable(path: string, cause: unknown): never {
  const why = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : ''
  throw new CliError('CS_USAGE', `${path} cannot be read${why}`, { cause })
}

function assertNew(
  document: PolicyDocument,
  { file, origins }: { readonly file: string; readonly origins: Map<string, string> },
): void {
  const key = documentKey(document)
  const before = origins.get(key)
  if (before !== undefined) {
    const name = `${document.kind} ${documentName(document)}`
    throw new CliError('CS_USAGE', `${name} is both in ${before} and in ${file}`)
  }
  origins.set(key, file)
}
