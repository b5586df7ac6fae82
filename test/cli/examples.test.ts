import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { AGENT_PREFIX, agentSettings } from '../../cli/config/agent-settings.js'
import { loadConfig } from '../../cli/config/load.js'
import { SENTRY_PREFIX, sentrySettings } from '../../cli/config/sentry-settings.js'
import { SIDECAR_PREFIX, sidecarSettings } from '../../cli/config/sidecar-settings.js'

const examples = resolve(import.meta.dirname, '../../examples')

test.each([
  ['sentry.yaml', sentrySettings, SENTRY_PREFIX],
  ['agent.yaml', agentSettings, AGENT_PREFIX],
  ['sidecar.yaml', sidecarSettings, SIDECAR_PREFIX],
])('the example %s is a configuration', async (name, schema, prefix) => {
  const flags = { config: resolve(examples, name) }
  await expect(
    loadConfig({ schema, prefix, flags, context: { environment: {} } }),
  ).resolves.toBeDefined()
})
