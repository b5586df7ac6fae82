import { randomBytes, randomInt, randomUUID } from 'node:crypto'

/** The only way the rest of the code gets chance. Tests hand in a seeded one. */
export interface Random {
  bytes(length: number): Uint8Array
  uuid(): string
  /** Uniform in [0, 1). */
  fraction(): number
}

const FRACTION_STEPS = 2 ** 47

export const systemRandom: Random = {
  bytes: (length) => randomBytes(length),
  uuid: () => randomUUID(),
  fraction: () => randomInt(FRACTION_STEPS) / FRACTION_STEPS,
}
