/**
 * Writes the pages of `docs/` that are made from code: `node dist/scripts/generate-docs.js [folder]`.
 * A test makes them anew and compares.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { AGENT_PREFIX, agentSettings } from '../cli/config/agent-settings.js'
import { jsonSchema } from '../cli/config/json-schema.js'
import { flatSettings } from '../cli/config/load.js'
import type { ObjectSchema, Schema } from '../cli/config/schema.js'
import { SENTRY_PREFIX, sentrySettings } from '../cli/config/sentry-settings.js'
import { SIDECAR_PREFIX, sidecarSettings } from '../cli/config/sidecar-settings.js'
import { type ReasonRoom, reasonRooms, requestReasonRooms } from '../cli/reasons.js'

const components = [
  {
    name: 'sentry',
    command: 'countersign sentry run',
    schema: sentrySettings,
    prefix: SENTRY_PREFIX,
  },
  { name: 'agent', command: 'countersign agent run', schema: agentSettings, prefix: AGENT_PREFIX },
  {
    name: 'sidecar',
    command: 'countersign sidecar run',
    schema: sidecarSettings,
    prefix: SIDECAR_PREFIX,
  },
] as const

export async function writeDocs(folder: string): Promise<void> {
  await writeFile(join(folder, 'errors.md'), errorsPage())
  await writeFile(join(folder, 'configuration.md'), configurationPage())
  for (const { name, schema } of components) {
    await writeFile(
      join(folder, `${name}.schema.json`),
      `${JSON.stringify(jsonSchema(schema, name), null, 2)}\n`,
    )
  }
}

function errorsPage(): string {
  return `# Errors

Every refusal carries one of these codes: in the error that is thrown, in the log (field \`code\`), in the
metric (label \`reason\`), on the command line and here. The codes are stable; messages may change. What
happens to a single request has words of its own, at the end of the page.

<!-- Made by scripts/generate-docs.ts from the registry in the code. -->

${reasonRooms.map((room) => roomPart('Codes of the', room)).join('\n')}
${requestReasonRooms.map((room) => roomPart('Reasons of', room)).join('\n')}`
}

function roomPart(title: string, { room, reasons }: ReasonRoom): string {
  const parts = Object.keys(reasons)
    .toSorted()
    .map((code) => errorPart(code, reasons))
  return `## ${title} ${room}\n\n${parts.join('\n')}`
}

function errorPart(code: string, reasons: ReasonRoom['reasons']): string {
  const reason = reasons[code]
  return reason ? `### ${code}\n\n*${reason.severity}.* ${reason.what}\n\n${reason.todo}\n` : ''
}

function configurationPage(): string {
  const parts = components.map(
    ({ name, command, schema, prefix }) =>
      `## ${command}\n\nJSON Schema: [${name}.schema.json](${name}.schema.json)\n\n${settingsTable(schema, prefix)}\n${nestedTables(schema)}`,
  )
  return `# Configuration

Each component reads one YAML file (\`--config\`, or the variable \`<PREFIX>_CONFIG\`). An environment variable
overrides the file, a flag overrides both. An unknown key is refused, with the nearest one that exists.
Durations are written \`90s\`, \`15m\`, \`1h\`, \`7d\`. In a variable, a list is separated by blanks, or is JSON;
an item that is a group of settings is written \`key=value,key=value\`, or as JSON.

<!-- Made by scripts/generate-docs.ts from the settings in the code. -->

${parts.join('\n')}`
}

function settingsTable(schema: ObjectSchema, prefix: string): string {
  const rows = flatSettings(schema, prefix).map(
    ({ path, schema: setting, flag, variable }) =>
      `| \`${path.join('.')}\` | ${typeText(setting)} | ${defaultText(setting)} | ${setting.description} | \`--${flag}\`, \`${variable}\` |`,
  )
  return [
    '| key | takes | default | meaning | flag and variable |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n')
}

/** The groups that stand inside lists: `inbound[]`, `outbound[].routes[]`. */
function nestedTables(schema: ObjectSchema, path = ''): string {
  return Object.entries(schema.properties)
    .map(([key, property]) => {
      if (property.kind !== 'list' || property.items.kind !== 'object') return ''
      const here = `${path}${key}[]`
      const rows = Object.entries(property.items.properties).map(
        ([name, item]) =>
          `| \`${name}\` | ${typeText(item)} | ${defaultText(item)} | ${item.description} |`,
      )
      const table = [
        '| key | takes | default | meaning |',
        '| --- | --- | --- | --- |',
        ...rows,
        '',
      ].join('\n')
      return `### ${here}\n\n${property.items.description}.\n\n${table}\n${nestedTables(property.items, `${here}.`)}`
    })
    .join('')
}

function typeText(schema: Schema): string {
  switch (schema.kind) {
    case 'choice':
      return schema.values.map((value) => `\`${value}\``).join(', ')
    case 'integer':
      return `${schema.minimum} to ${schema.maximum}`
    case 'list':
      return `list of ${schema.items.kind === 'object' ? 'groups' : typeText(schema.items)}`
    case 'map':
      return 'names with values'
    case 'text':
      return schema.format ?? 'text'
    default:
      return schema.kind
  }
}

function defaultText(schema: Schema): string {
  if (schema.kind === 'object') return ''
  return schema.default === undefined
    ? ''
    : `\`${typeof schema.default === 'string' ? schema.default : JSON.stringify(schema.default)}\``
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await writeDocs(process.argv[2] ?? 'docs')
}
