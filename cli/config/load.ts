import { type Command, Option } from 'commander'
import { isNode, LineCounter, parseDocument } from 'yaml'
import { PlatformError } from '../../platform/errors.js'
import { readRequired } from '../../platform/files.js'
import type { CliContext } from '../context.js'
import { CliError } from '../errors.js'
import { check, type Locate } from './check.js'
import type { ObjectSchema, Schema } from './schema.js'

const MAX_CONFIG_BYTES = 2 ** 20

/** One setting that a flag or an environment variable can give. */
export interface FlatSetting {
  readonly path: readonly string[]
  readonly schema: Exclude<Schema, ObjectSchema>
  readonly flag: string
  readonly variable: string
}

/** The settings of a component, groups taken apart: `ttl.x509_svid` becomes `--ttl-x509-svid`. */
export function flatSettings(
  schema: ObjectSchema,
  prefix: string,
  path: readonly string[] = [],
): FlatSetting[] {
  return Object.entries(schema.properties).flatMap(([key, property]) => {
    const here = [...path, key]
    if (property.kind === 'object') return flatSettings(property, prefix, here)
    return [
      {
        path: here,
        schema: property,
        flag: here.join('-').replaceAll('_', '-'),
        variable: [prefix, ...here].join('_').toUpperCase(),
      },
    ]
  })
}

/** Adds `--config` and a flag for each setting to a command. */
export function addConfigFlags(command: Command, schema: ObjectSchema, prefix: string): void {
  command.option('-c, --config <file>', 'configuration file (YAML)')
  for (const { flag, schema: setting, variable } of flatSettings(schema, prefix)) {
    const described = `${setting.description} [${variable}]`
    if (setting.kind === 'boolean')
      command.addOption(new Option(`--${flag} [true|false]`, described).preset('true'))
    else if (setting.kind === 'list')
      command.addOption(
        new Option(`--${flag} <value>`, `${described} (repeatable)`).argParser(collect),
      )
    else command.addOption(new Option(`--${flag} <value>`, described))
  }
}

const collect = (value: string, before: unknown): string[] => [
  ...(Array.isArray(before) ? (before as string[]) : []),
  value,
]

export interface LoadOptions {
  readonly schema: ObjectSchema
  /** Of the environment variables: `COUNTERSIGN_SENTRY`. */
  readonly prefix: string
  readonly flags: Readonly<Record<string, unknown>>
  readonly context: Pick<CliContext, 'environment'>
}

/**
 * Reads a component's configuration: the file, over it the environment, over it the flags. What comes
 * back has the shape `Read<typeof schema>`.
 * Throws `CS_CONFIG_UNREADABLE`, `CS_CONFIG_UNKNOWN_KEY`, `CS_CONFIG_INVALID`.
 */
export async function loadConfig(options: LoadOptions): Promise<unknown> {
  const { schema, prefix, flags, context } = options
  const file =
    typeof flags.config === 'string' ? flags.config : context.environment[`${prefix}_CONFIG`]
  const { value, locate } =
    file === undefined ? { value: {}, locate: () => 'configuration' } : await readYaml(file)
  const origins = new Map<string, string>()
  for (const setting of flatSettings(schema, prefix)) {
    const fromFlag = flags[camelCase(setting.flag)]
    const fromEnvironment = context.environment[setting.variable]
    const given = fromFlag ?? fromEnvironment
    if (given === undefined) continue
    const origin = fromFlag === undefined ? setting.variable : `--${setting.flag}`
    origins.set(setting.path.join('.'), origin)
    place(value, setting.path, textToValue(setting.schema, given as string | string[], origin))
  }
  const locateAny: Locate = (path) => originOf(path, origins) ?? locate(path)
  return check(schema, value, locateAny)
}

function originOf(
  path: readonly (string | number)[],
  origins: ReadonlyMap<string, string>,
): string | undefined {
  for (let length = path.length; length > 0; length -= 1) {
    const origin = origins.get(path.slice(0, length).join('.'))
    if (origin) return origin
  }
  return undefined
}

/** Reads a YAML file whose top is a group of settings. Throws `CS_CONFIG_UNREADABLE`. */
async function readYaml(path: string): Promise<{ value: Record<string, unknown>; locate: Locate }> {
  const text = (await readConfigFile(path)).toString('utf8')
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, maxAliasCount: 0 } as Parameters<
    typeof parseDocument
  >[1])
  const problem = document.errors[0]
  if (problem) {
    const line = problem.linePos?.[0].line ?? 1
    throw new CliError(
      'CS_CONFIG_UNREADABLE',
      `${path}:${line}: ${problem.message.split('\n')[0] ?? 'not YAML'}`,
    )
  }
  const value = plainValue(document, path) ?? {}
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CliError(
      'CS_CONFIG_UNREADABLE',
      `${path}: must hold settings, one to a line, as key: value`,
    )
  }
  return {
    value: value as Record<string, unknown>,
    locate: (at) => `${path}:${lineOf(document, lines, at)}`,
  }
}

function plainValue(document: ReturnType<typeof parseDocument>, origin: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 })
  } catch (error) {
    throw new CliError('CS_CONFIG_UNREADABLE', `${origin}: may not use aliases`, { cause: error })
  }
}

function lineOf(
  document: ReturnType<typeof parseDocument>,
  lines: LineCounter,
  path: readonly (string | number)[],
): number {
  for (let length = path.length; length > 0; length -= 1) {
    const node = document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line
  }
  return 1
}

async function readConfigFile(path: string): Promise<Buffer> {
  try {
    return await readRequired(path, MAX_CONFIG_BYTES)
  } catch (error) {
    if (error instanceof PlatformError)
      throw new CliError('CS_CONFIG_UNREADABLE', error.message, { cause: error })
    throw error
  }
}

/** Turns the text of a flag or variable into what a file would have held. */
function textToValue(
  schema: Exclude<Schema, ObjectSchema>,
  given: string | string[],
  origin: string,
): unknown {
  if (Array.isArray(given)) return given.map((item) => itemToValue(schema, item, origin))
  switch (schema.kind) {
    case 'integer':
      return /^-?\d+$/.test(given) ? Number(given) : given
    case 'boolean':
      return given === 'true' ? true : given === 'false' ? false : given
    case 'list':
      return given.trim().startsWith('[')
        ? parseText(given, origin)
        : given
            .split(' ')
            .filter(Boolean)
            .map((item) => itemToValue(schema, item, origin))
    case 'map':
      return given.trim().startsWith('{') ? parseText(given, origin) : pairs(given, origin)
    case 'text':
    case 'duration':
    case 'choice':
      return given
  }
}

function itemToValue(schema: Schema, item: string, origin: string): unknown {
  if (schema.kind !== 'list' || schema.items.kind !== 'object') return item
  return item.trim().startsWith('{') ? parseText(item, origin) : pairs(item, origin)
}

/** `listen=127.0.0.1:1,app=127.0.0.1:2` */
function pairs(text: string, origin: string): Record<string, string> {
  return Object.fromEntries(
    text.split(',').map((pair) => {
      const at = pair.indexOf('=')
      if (at < 1)
        throw new CliError(
          'CS_CONFIG_INVALID',
          `${origin}: takes key=value pairs with commas between, not ${pair}`,
        )
      return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()]
    }),
  )
}

function parseText(text: string, origin: string): unknown {
  const document = parseDocument(text)
  if (document.errors[0])
    throw new CliError('CS_CONFIG_INVALID', `${origin}: is neither JSON nor YAML`)
  return plainValue(document, origin)
}

function place(target: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [last, ...before] = path.toReversed()
  let group = target
  for (const step of before.toReversed()) {
    const next = group[step]
    const inner =
      typeof next === 'object' && next !== null && !Array.isArray(next) ? { ...next } : {}
    group[step] = inner
    group = inner
  }
  if (last !== undefined) group[last] = value
}

const camelCase = (flag: string) =>
  flag.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
