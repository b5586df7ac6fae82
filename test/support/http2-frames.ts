/** HTTP/2 frames made by hand, for what no client would send. */

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
const TYPES = { data: 0, headers: 1, settings: 4 } as const
const END_STREAM = 1
const END_HEADERS = 4

/** What a client sends first. */
export function clientPreface(): Buffer {
  return Buffer.concat([PREFACE, frame({ type: TYPES.settings, flags: 0, stream: 0 })])
}

/** A request without a body, its fields as literals in the order given. */
export function requestFrame(fields: readonly (readonly [string, string])[]): Buffer {
  const payload = Buffer.concat(fields.flatMap(([name, value]) => literal(name, value)))
  return frame({ type: TYPES.headers, flags: END_STREAM | END_HEADERS, stream: 1, payload })
}

export function frame(parts: {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload?: Buffer
}): Buffer {
  const { type, flags, stream, payload = Buffer.alloc(0) } = parts
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** HPACK: a literal that enters no table, without Huffman coding (RFC 7541 §6.2.2). */
function literal(name: string, value: string): Buffer[] {
  return [Buffer.from([0]), ...[name, value].map(text)]
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1')
  if (bytes.length > 126) throw new Error('longer than this coder goes')
  return Buffer.concat([Buffer.from([bytes.length]), bytes])
}

export interface ReceivedFrame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** Takes the complete frames out of what a server has sent. */
export function framesIn(bytes: Buffer): ReceivedFrame[] {
  const frames: ReceivedFrame[] = []
  for (let at = 0; at + 9 <= bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3)
    if (end > bytes.length) break
    frames.push({
      type: bytes.readUInt8(at + 3),
      flags: bytes.readUInt8(at + 4),
      stream: bytes.readUInt32BE(at + 5) & 0x7fffffff,
      payload: bytes.subarray(at + 9, end),
    })
    at = end
  }
  return frames
}
