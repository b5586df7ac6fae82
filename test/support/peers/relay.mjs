// A process that calls the agent on behalf of a test and can then become something else: what relay.c
// does, as far as it can be done without a compiler. Started with `node --input-type=module -e`, so that
// it needs no file that another user could not read.
import { spawn } from 'node:child_process'
import net from 'node:net'
import { createInterface } from 'node:readline'

const { source, resume, listen, agentPath } = JSON.parse(process.env.RELAY)
const say = (word) => process.stdout.write(`${word} ${process.pid}\n`)

const agent = resume ? new net.Socket({ fd: 3 }) : net.connect(agentPath)
let client = resume?.client ? new net.Socket({ fd: 4 }) : undefined

function join() {
  client.pipe(agent)
  agent.pipe(client)
  client.on('error', () => agent.destroy())
}

const commands = {
  handover() {
    client?.unpipe(agent)
    agent.unpipe(client)
    client?.pause()
    agent.pause()
    const environment = { source, resume: { client: client !== undefined, parent: process.pid } }
    spawn(process.execPath, ['--input-type=module', '-e', source], {
      stdio: ['inherit', 'inherit', 'inherit', agent, ...(client ? [client] : [])],
      env: { ...process.env, RELAY: JSON.stringify(environment) },
      detached: true,
    })
    process.exit(0)
  },
  setuid(id) {
    process.setgroups([])
    process.setgid(Number(id))
    process.setuid(Number(id))
    say('setuid')
  },
}

agent.on('error', () => process.exit(1))
agent.on('close', () => process.exit(0))
const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const [command, argument] = line.split(' ')
  commands[command]?.(argument)
})
// After a handover, whoever started this process no longer speaks to the one that came of it.
lines.on('close', () => resume || process.exit(0))

if (resume) {
  while (process.ppid === resume.parent) await new Promise((resolve) => setImmediate(resolve))
  if (client) join()
  say('handover')
} else {
  await new Promise((resolve) => agent.once('connect', resolve))
  const server = net.createServer((socket) => {
    client = socket
    join()
  })
  server.listen(listen, () => say('ready'))
}
