import type { Command } from 'commander'
import { AgentClient } from '../proto/gen/spire/api/server/agent/v1/agent.js'
import type { Agent } from '../proto/gen/spire/api/types/types.js'
import type { CliContext, OutputFormat } from './context.js'
import { columns, fields, print, relativeTime } from './output.js'
import { ask, sentryClient, withSentry } from './sentry-client.js'
import { idText, isoTime, selectorText, wireId } from './spire-types.js'

const PAGE_SIZE = 1000

interface AgentFlags {
  readonly sentrySocket?: string
  readonly output: OutputFormat
}

/** `countersign agent list|show|ban|evict`: the machines that may hand out identities. */
export function registerAgentVerbs(noun: Command, context: CliContext): void {
  withSentry(noun.command('list').description('list the agents that the sentry knows')).action(
    async (flags: AgentFlags) => {
      const agents = await listAgents(flags, context)
      print(context, {
        format: flags.output,
        kind: 'agents',
        value: { agents: agents.map(agentJson) },
        table: () => listTable(agents, context),
      })
    },
  )
  withSentry(noun.command('show <spiffe-id>').description('show one agent')).action(
    async (id: string, flags: AgentFlags) => {
      const agent = await ask(agentClient(flags), 'getAgent', {
        request: { id: wireId(id), outputMask: undefined },
        context,
      })
      print(context, {
        format: flags.output,
        kind: 'agent',
        value: agentJson(agent),
        table: () => agentTable(agent, context),
      })
    },
  )
  registerBanAndEvict(noun, context)
}

function registerBanAndEvict(noun: Command, context: CliContext): void {
  withSentry(
    noun
      .command('ban <spiffe-id>')
      .description(
        'refuse an agent from now on; it stays known, and cannot attest again until it is evicted',
      ),
  ).action(async (id: string, flags: AgentFlags) => {
    await ask(agentClient(flags), 'banAgent', {
      request: { id: wireId(id) },
      context,
    })
    said(context, flags, { id, change: 'banned' })
  })
  withSentry(
    noun
      .command('evict <spiffe-id>')
      .description('forget an agent; it must attest again, which lifts a ban'),
  ).action(async (id: string, flags: AgentFlags) => {
    await ask(agentClient(flags), 'deleteAgent', {
      request: { id: wireId(id) },
      context,
    })
    said(context, flags, { id, change: 'evicted' })
  })
}

function said(context: CliContext, flags: AgentFlags, value: { id: string; change: string }): void {
  print(context, {
    format: flags.output,
    kind: 'agent-change',
    value,
    table: ({ id, change }) => `${change} agent ${id}`,
  })
}

async function listAgents(flags: AgentFlags, context: CliContext): Promise<Agent[]> {
  const agents: Agent[] = []
  const client = agentClient(flags)
  let pageToken = ''
  do {
    const page = await ask(client, 'listAgents', {
      request: { filter: undefined, outputMask: undefined, pageSize: PAGE_SIZE, pageToken },
      context,
    })
    agents.push(...page.agents)
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return agents
}

function agentJson(agent: Agent): Readonly<Record<string, unknown>> {
  return {
    id: idText(agent.id),
    attestation_type: agent.attestationType,
    serial_number: agent.x509svidSerialNumber,
    expires_at: isoTime(agent.x509svidExpiresAt),
    selectors: agent.selectors.map(selectorText),
    banned: agent.banned,
    can_reattest: agent.canReattest,
    agent_version: agent.agentVersion,
  }
}

function listTable(agents: readonly Agent[], context: CliContext): string {
  if (agents.length === 0) return 'no agents; countersign token generate makes a join token for one'
  const rows = agents.map((agent) => [
    idText(agent.id),
    agent.attestationType,
    state(agent, context),
    agent.agentVersion || '-',
  ])
  return columns(['SPIFFE ID', 'ATTESTED BY', 'STATE', 'VERSION'], rows)
}

function state(agent: Agent, context: CliContext): string {
  if (agent.banned) return 'banned'
  const expires = Number(agent.x509svidExpiresAt) * 1000
  const word = expires > context.now().getTime() ? 'expires' : 'expired'
  return `${word} ${relativeTime(expires, context.now())}`
}

function agentTable(agent: Agent, context: CliContext): string {
  return fields([
    ['SPIFFE ID', idText(agent.id)],
    ['Attested by', agent.attestationType],
    ['State', state(agent, context)],
    ['Serial number', agent.x509svidSerialNumber || '-'],
    ['Selectors', agent.selectors.map(selectorText).join(' ') || '-'],
    ['May attest again', agent.canReattest ? 'yes' : 'no'],
    ['Version', agent.agentVersion || '-'],
  ])
}

const agentClient = (flags: AgentFlags) => sentryClient(AgentClient, flags.sentrySocket)
