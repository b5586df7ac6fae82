import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { spiffeStandards } from '../spiffe/index.js'
import type { CliContext } from './context.js'
import { type ExitCode, exitCode } from './context.js'
import { printFailure } from './failure.js'

/** Runs a command line and gives the exit code of the process. Never throws. */
export async function runCli(args: readonly string[], context: CliContext): Promise<ExitCode> {
  const program = await buildProgram(args, context)
  try {
    await program.parseAsync([...args], { from: 'user' })
    return exitCode.ok
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage
    return printFailure(context, error, { debug: args.includes('--debug'), json: wantsJson(args) })
  }
}

const wantsJson = (args: readonly string[]) =>
  args.some(
    (arg, at) =>
      arg === '-ojson' ||
      arg === '--output=json' ||
      (arg === 'json' && ['-o', '--output'].includes(args[at - 1] ?? '')),
  )

async function buildProgram(args: readonly string[], context: CliContext): Promise<Command> {
  const program = new Command('countersign')
    .description(
      'Workload identity and mTLS: a certificate authority, an agent and a policy-enforcing proxy',
    )
    .version(versionText(), '-V, --version', 'print the version, and the revision of SPIFFE')
    .option('--debug', 'print the stack of an error')
    .showHelpAfterError('(countersign --help lists the commands)')
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      getOutHasColors: () => context.colour,
      getErrHasColors: () => context.colour,
    })
    .exitOverride()
  await registerCommands(program, args, context)
  inheritSettings(program)
  return program
}

type Register = (program: Command, context: CliContext) => void

/** Where each command lives. Only the one that is called is loaded, so that `--help` and `inspect` start at once. */
const commands: Readonly<Record<string, { description: string; load: () => Promise<Register> }>> = {
  dev: {
    description: 'show the whole on this machine: sentry, agent, two apps with sidecars',
    load: async () => (await import('./dev/dev.js')).registerDev,
  },
  sentry: {
    description: 'the certificate authority',
    load: async () => (await import('./run-sentry.js')).registerSentry,
  },
  agent: {
    description: 'the agent of this machine, and the agents that the sentry knows',
    load: async () => (await import('./run-agent.js')).registerAgent,
  },
  sidecar: {
    description: 'the proxy beside an app',
    load: async () => (await import('./run-sidecar.js')).registerSidecar,
  },
  entry: {
    description: 'registration entries: who gets which SPIFFE ID',
    load: async () => (await import('./entry.js')).registerEntry,
  },
  token: {
    description: 'join tokens, with which an agent attests for the first time',
    load: async () => (await import('./token.js')).registerToken,
  },
  bundle: {
    description: 'trust bundles: the keys of our own and of other trust domains',
    load: async () => (await import('./bundle.js')).registerBundle,
  },
  policy: {
    description: 'access policies: who may call what',
    load: async () => (await import('./policy.js')).registerPolicy,
  },
  api: {
    description: 'a client of any SPIFFE Workload API',
    load: async () => (await import('./api.js')).registerApi,
  },
  inspect: {
    description: 'show what a certificate, token, bundle, key or socket is',
    load: async () => (await import('./inspect.js')).registerInspect,
  },
  explain: {
    description: 'why something is as it is',
    load: async () => (await import('./explain.js')).registerExplain,
  },
  doctor: {
    description: 'check the sentry and the agent on this machine',
    load: async () => (await import('./doctor/doctor.js')).registerDoctor,
  },
}
const aliases: Readonly<Record<string, string>> = { check: 'doctor' }
const hidden: Readonly<Record<string, () => Promise<Register>>> = {
  'demo-app': async () => (await import('./dev/apps.js')).registerDemoApps,
}

async function registerCommands(
  program: Command,
  args: readonly string[],
  context: CliContext,
): Promise<void> {
  const called = args.find((arg) => !arg.startsWith('-')) ?? ''
  const named = called === 'help' ? (args[args.indexOf(called) + 1] ?? '') : called
  const wanted = aliases[named] ?? named
  for (const [name, { description, load }] of Object.entries(commands)) {
    if (name === wanted) (await load())(program, context)
    else program.command(name).description(description)
  }
  const load = hidden[wanted]
  if (load) (await load())(program, context)
}

/** Commander hands its settings down only to commands that are made after them, one level at a time. */
function inheritSettings(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent)
    inheritSettings(command)
  }
}

function versionText(): string {
  const { revision, date } = spiffeStandards
  return `${version()} (SPIFFE standards ${revision} of ${date})`
}

export function version(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const text = readFileSync(new URL(path, import.meta.url), 'utf8')
      return String((JSON.parse(text) as { version: unknown }).version)
    } catch {
      continue
    }
  }
  return 'unknown'
}
