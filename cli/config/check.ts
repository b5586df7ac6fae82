import { resolve } from 'node:path'
import { parseHostPort } from '../../platform/listen.js'
import { parseSpiffeId, parseTrustDomain, SpiffeError } from '../../spiffe/index.js'
import { CliError } from '../errors.js'
import {
  type MapSchema,
  nearestName,
  type ObjectSchema,
  parseDuration,
  type Schema,
  type TextSchema,
} from './schema.js'

/** Says where a value stands, for people: `sentry.yaml:12`, `--listen`, `COUNTERSIGN_SENTRY_LISTEN`. */
export type Locate = (path: readonly (string | number)[]) => string

/**
 * Holds a value to the schema and fills in defaults. Throws `CS_CONFIG_UNKNOWN_KEY`, `CS_CONFIG_INVALID`,
 * naming the place, the setting and what it takes.
 */
export function check(schema: Schema, value: unknown, locate: Locate): unknown {
  return checkAt(schema, value, { path: [], locate })
}

interface Place {
  readonly path: readonly (string | number)[]
  readonly locate: Locate
}

function checkAt(schema: Schema, value: unknown, place: Place): unknown {
  switch (schema.kind) {
    case 'text':
      return checkText(schema, value, place)
    case 'integer':
      if (
        Number.isSafeInteger(value) &&
        (value as number) >= schema.minimum &&
        (value as number) <= schema.maximum
      )
        return value
      throw refusal(
        place,
        `takes a whole number from ${schema.minimum} to ${schema.maximum}`,
        value,
      )
    case 'boolean':
      if (typeof value === 'boolean') return value
      throw refusal(place, 'takes true or false', value)
    case 'duration':
      return checkDuration(schema, value, place)
    case 'choice':
      if (typeof value === 'string' && schema.values.includes(value)) return value
      throw refusal(place, `takes one of ${schema.values.join(', ')}`, value)
    case 'list':
      if (!Array.isArray(value)) throw refusal(place, 'takes a list', value)
      return value.map((item, index) => checkAt(schema.items, item, inside(place, index)))
    case 'map':
      return checkMap(schema, value, place)
    case 'object':
      return checkObject(schema, value, place)
  }
}

function checkText(schema: TextSchema, value: unknown, place: Place): string {
  if (typeof value !== 'string' || value === '') {
    throw refusal(place, 'takes text', schema.secret ? SECRET : value)
  }
  switch (schema.format) {
    case 'address':
      if (!parseHostPort(value))
        throw refusal(place, 'takes an address such as 127.0.0.1:8081', value)
      break
    case 'trust-domain':
      guard(place, value, () => parseTrustDomain(value))
      break
    case 'spiffe-id':
      guard(place, value, () => parseSpiffeId(value))
      break
    case 'endpoint':
      if (!/^(unix:\/|tcp:\/\/)/.test(value))
        throw refusal(place, 'takes unix:///path or tcp://ip:port', value)
      break
    case 'path':
      return resolve(value)
    case undefined:
      break
  }
  return value
}

function guard(place: Place, value: string, parse: () => unknown): void {
  try {
    parse()
  } catch (error) {
    if (error instanceof SpiffeError) throw refusal(place, `is wrong: ${error.message}`, value)
    throw error
  }
}

function checkDuration(
  schema: Extract<Schema, { kind: 'duration' }>,
  value: unknown,
  place: Place,
): number {
  const read = typeof value === 'string' ? parseDuration(value) : undefined
  if (read === undefined) throw refusal(place, 'takes a duration such as 90s, 15m, 1h or 7d', value)
  const { minimum, maximum } = schema
  if (minimum !== undefined && read < (parseDuration(minimum) ?? 0))
    throw refusal(place, `is at least ${minimum}`, value)
  if (maximum !== undefined && read > (parseDuration(maximum) ?? Number.POSITIVE_INFINITY))
    throw refusal(place, `is at most ${maximum}`, value)
  return read
}

function checkMap(schema: MapSchema, value: unknown, place: Place): unknown {
  if (!isRecord(value)) throw refusal(place, 'takes names with values', value)
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      checkAt(schema.values, item, inside(place, name)),
    ]),
  )
}

function checkObject(schema: ObjectSchema, value: unknown, place: Place): unknown {
  if (!isRecord(value)) throw refusal(place, 'takes a group of settings', value)
  const known = Object.keys(schema.properties)
  for (const key of Object.keys(value))
    if (!known.includes(key)) throw unknownKey(key, known, inside(place, key))
  const result: Record<string, unknown> = {}
  for (const [key, property] of Object.entries(schema.properties)) {
    // A key that stands there without a value is a slip, and its default may be the wrong guess.
    const given = Object.hasOwn(value, key) ? value[key] : defaultOf(property)
    if (given !== undefined) result[key] = checkAt(property, given, inside(place, key))
  }
  return result
}

function defaultOf(schema: Schema): unknown {
  return schema.kind === 'object' ? {} : schema.default
}

const inside = ({ path, locate }: Place, step: string | number): Place => ({
  path: [...path, step],
  locate,
})

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function unknownKey(key: string, known: readonly string[], place: Place): CliError {
  const nearest = nearestName(key, known)
  const hint = nearest ? `; did you mean ${nearest}?` : `; known here: ${known.join(', ')}`
  return new CliError(
    'CS_CONFIG_UNKNOWN_KEY',
    `${place.locate(place.path)}: there is no setting ${place.path.join('.')}${hint}`,
  )
}

function refusal(place: Place, takes: string, value: unknown): CliError {
  const name = place.path.length > 0 ? place.path.join('.') : 'the configuration'
  return new CliError(
    'CS_CONFIG_INVALID',
    `${place.locate(place.path)}: ${name} ${takes}, not ${shown(value)}`,
  )
}

/** Stands for a value that no message may repeat. */
const SECRET = Symbol('secret')

function shown(value: unknown): string {
  if (value === SECRET) return 'what was given'
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
