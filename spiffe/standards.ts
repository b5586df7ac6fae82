/** The revision of the SPIFFE standards, <https://github.com/spiffe/spiffe>, folder `standards/`, that this library follows. */
export const spiffeStandards = { revision: '665a28f3253e', date: '2026-07-01' } as const
