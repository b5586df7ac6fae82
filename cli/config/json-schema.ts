import type { ObjectSchema, Schema } from './schema.js'

/** The JSON Schema of a component's configuration file, for editors and for checks in a pipeline. */
export function jsonSchema(schema: ObjectSchema, name: string): Readonly<Record<string, unknown>> {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: `Countersign ${name}`,
    ...describe(schema),
  }
}

const DURATION_PATTERN = '^([0-9]+(ms|s|m|h|d))+$'

function describe(schema: Schema): Record<string, unknown> {
  const { description } = schema
  switch (schema.kind) {
    case 'text':
      return withDefault({ type: 'string', minLength: 1, description }, schema.default)
    case 'integer':
      return withDefault(
        { type: 'integer', minimum: schema.minimum, maximum: schema.maximum, description },
        schema.default,
      )
    case 'boolean':
      return withDefault({ type: 'boolean', description }, schema.default)
    case 'duration':
      return withDefault({ type: 'string', pattern: DURATION_PATTERN, description }, schema.default)
    case 'choice':
      return withDefault({ enum: schema.values, description }, schema.default)
    case 'list':
      return withDefault(
        { type: 'array', items: describe(schema.items), description },
        schema.default,
      )
    case 'map':
      return withDefault(
        { type: 'object', additionalProperties: describe(schema.values), description },
        schema.default,
      )
    case 'object':
      return {
        type: 'object',
        description,
        additionalProperties: false,
        properties: Object.fromEntries(
          Object.entries(schema.properties).map(([key, property]) => [key, describe(property)]),
        ),
      }
  }
}

function withDefault(described: Record<string, unknown>, value: unknown): Record<string, unknown> {
  return value === undefined ? described : { ...described, default: value }
}
