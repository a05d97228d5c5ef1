/// Decides which refusals are logged: the first of a user at once, then at most one in `interval`, each with the number
/// that was left out. Bounded in memory whatever is thrown at it.
struct RefusalLog: Sendable {
    private struct Account: Sendable {
        var nextAllowed: Int64
        var suppressed: Int
    }

    /// Nanoseconds.
    let interval: Int64
    let maximumUsers: Int
    /// Key: the user.
    private var accounts: [UInt32: Account] = [:]

    init(interval: Duration = .seconds(10), maximumUsers: Int = 1024) {
        let parts = interval.components
        self.interval = parts.seconds * 1_000_000_000 + parts.attoseconds / 1_000_000_000
        self.maximumUsers = maximumUsers
    }

    /// - Parameter now: nanoseconds of the monotonic clock.
    /// - Returns: Nil when nothing is to be logged; otherwise how many of this user's refusals went unlogged before.
    mutating func shouldLog(uid: UInt32, now: Int64) -> Int? {
        if let account = accounts[uid] {
            guard now >= account.nextAllowed else {
                accounts[uid]?.suppressed += 1
                return nil
            }
            accounts[uid] = Account(nextAllowed: now + interval, suppressed: 0)
            return account.suppressed
        }
        if accounts.count >= maximumUsers {
            accounts = accounts.filter { $0.value.nextAllowed > now }
            guard accounts.count < maximumUsers else { return nil }
        }
        accounts[uid] = Account(nextAllowed: now + interval, suppressed: 0)
        return 0
    }
}
