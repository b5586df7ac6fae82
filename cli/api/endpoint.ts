import { type Command, InvalidArgumentError, Option } from 'commander'
import { SpiffeError } from '../../spiffe/index.js'
import {
  ENDPOINT_VARIABLE,
  formatEndpointAddress,
  nodeRuntime,
  type WorkloadApiClient,
  workloadApiClient,
} from '../../spiffe/workload-api/index.js'
import { agentSocket } from '../agent-client.js'
import { parseDuration } from '../config/schema.js'
import type { CliContext, OutputFormat } from '../context.js'
import { durationWords } from '../output.js'
import { outputOption } from '../sentry-client.js'

export interface EndpointFlags {
  readonly socket?: string
  /** Milliseconds. */
  readonly timeout: number
  readonly output: OutputFormat
}

/** Adds what every command takes that asks a SPIFFE endpoint. */
export function withEndpoint(command: Command): Command {
  return withSocket(command)
    .addOption(
      new Option('--timeout <duration>', 'how long to wait for the answer')
        .argParser(duration)
        .default(10_000, '10s'),
    )
    .addOption(outputOption())
}

export function withSocket(command: Command): Command {
  return command.option(
    '--socket <address>',
    `address of the endpoint, such as unix:///run/agent.sock (default: ${ENDPOINT_VARIABLE}, else the agent's own)`,
  )
}

/** A client of the endpoint that the flags or the environment name; a bare path is one as well. */
export function endpointClient(socket: string | undefined, context: CliContext): WorkloadApiClient {
  const { clock, random } = nodeRuntime
  const { environment, now } = context
  return workloadApiClient({
    address: addressOf(socket ?? environment[ENDPOINT_VARIABLE], context),
    runtime: { clock: { ...clock, now }, random, environment },
  })
}

/** Asks the endpoint within the time that was allowed. Throws `CS_ENDPOINT_UNAVAILABLE` when it is over. */
export async function askEndpoint<Answer>(
  { socket, timeout }: Pick<EndpointFlags, 'socket' | 'timeout'>,
  context: CliContext,
  ask: (client: WorkloadApiClient, signal: AbortSignal) => Promise<Answer>,
): Promise<Answer> {
  const client = endpointClient(socket, context)
  const late = AbortSignal.timeout(timeout)
  try {
    return await ask(client, AbortSignal.any([context.signal, late]))
  } catch (error) {
    const unanswered = (why: string) =>
      new SpiffeError('CS_ENDPOINT_UNAVAILABLE', why, { cause: error })
    if (context.signal.aborted) throw unanswered('interrupted before an answer came')
    if (late.aborted) throw unanswered(`no answer within ${durationWords(timeout)}`)
    throw error
  } finally {
    client.close()
  }
}

function addressOf(given: string | undefined, context: CliContext): string {
  const path = given ?? agentSocket(undefined, context)
  return path.startsWith('/') ? formatEndpointAddress({ kind: 'unix', path }) : path
}

function duration(text: string): number {
  const ms = parseDuration(text)
  if (ms === undefined || ms < 1) throw new InvalidArgumentError('takes a duration such as 10s.')
  return ms
}
