/** Something that is wrong with what was inspected, or will be. */
export interface Finding {
  readonly severity: 'error' | 'warning'
  readonly code: string
  readonly message: string
}

/** What was found out about one thing. */
export interface Inspection {
  readonly kind: 'x509' | 'jwt' | 'bundle' | 'key' | 'socket'
  /** For `-o json`, with names in snake case. */
  readonly json: object
  /** For people: a heading, then names and values. */
  readonly text: string
  readonly findings: readonly Finding[]
}

export const finding = (code: string, message: string): Finding => ({
  severity: 'error',
  code,
  message,
})
export const warning = (code: string, message: string): Finding => ({
  severity: 'warning',
  code,
  message,
})

/** Runs a check of the standard; what it finds broken is a finding. */
export function findingOf(check: () => unknown): readonly Finding[] {
  try {
    check()
    return []
  } catch (error) {
    if (!(error instanceof Error)) throw error
    const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined
    if (!code?.startsWith('CS_')) throw error
    return [finding(code, error.message)]
  }
}
