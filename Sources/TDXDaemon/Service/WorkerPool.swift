internal import LinuxSystem

/// For whom a thread works.
enum Beneficiary: Hashable, Sendable {
    /// tdxd itself: reaping, proofs, an orderly end.
    case daemon
    case client(uid: UInt32, role: Role)
}

/// Threads for work that blocks: one for each job up to a limit, further jobs wait their turn. A thread that finds no job
/// stays for a moment, since making one takes longer than many a job does; an idle daemon has none.
///
/// Clients share the threads by role and user (`PoolShares`), so that some are left for admins whatever others do, and some for
/// tdxd's own work whatever admins do. A job for which no thread is free and no place to wait is refused at once.
final class WorkerPool: Sendable {
    typealias Job = @Sendable () -> Void

    private struct Waiting {
        var beneficiary: Beneficiary
        var job: Job
    }

    private struct State {
        var threads = 0
        /// Of the threads, those that wait for a job.
        var idle = 0
        var waiting: [Waiting] = []
        /// Jobs that run now.
        var running = PoolUse()
        /// Jobs that wait.
        var queued = PoolUse()
    }

    /// How long a thread stays without a job.
    static let linger = 5_000

    private let name: String
    private let limit: Int
    private let shares: PoolShares
    private let lingerMilliseconds: Int
    private let state = Monitor(State())

    /// - Parameters:
    ///   - name: of the threads, up to 15 bytes.
    ///   - limit: threads, at least 1.
    ///   - lingerMilliseconds: how long a thread stays without a job.
    init(name: String, limit: Int, lingerMilliseconds: Int = WorkerPool.linger) {
        self.name = name
        self.limit = max(1, limit)
        shares = PoolShares(threads: self.limit)
        self.lingerMilliseconds = lingerMilliseconds
    }

    /// Jobs that run or wait.
    var count: Int { state.update(waking: .nobody) { $0.running.total + $0.waiting.count } }

    /// Threads that there are.
    var threads: Int { state.update(waking: .nobody) { $0.threads } }

    /// Takes a job of tdxd's own, which always has a place.
    func submit(_ job: @escaping Job) { _ = submit(for: .daemon, job) }

    /// - Returns: false where the client has as many jobs waiting as it may; the job is not taken then.
    func submit(for beneficiary: Beneficiary, _ job: @escaping Job) -> Bool {
        take(Waiting(beneficiary: beneficiary, job: job), isAdmitted: false)
    }

    /// Takes a further job of a call that was admitted before.
    func resume(for beneficiary: Beneficiary, _ job: @escaping Job) {
        _ = take(Waiting(beneficiary: beneficiary, job: job), isAdmitted: true)
    }

    private func take(_ waiting: Waiting, isAdmitted: Bool) -> Bool {
        let beneficiary = waiting.beneficiary
        let (isTaken, startsThread) = state.update(waking: .one) { state in
            guard isAdmitted || shares.mayWait(beneficiary, state.queued) else { return (false, false) }
            state.waiting.append(waiting)
            state.queued.add(beneficiary)
            // Each idle thread takes one of those that wait and may run.
            guard state.waiting.count > state.idle, state.threads < limit else { return (true, false) }
            state.threads += 1
            return (true, true)
        }
        if startsThread { start() }
        return isTaken
    }

    private func start() {
        do throws(LinuxError) {
            _ = try SystemThread(name: name) { self.work() }
        } catch {
            // At the limit of threads: leave it to those that run, or, without any, do it here.
            let left: [Waiting] = state.update(waking: .nobody) { state in
                state.threads -= 1
                guard state.threads == 0 else { return [] }
                defer {
                    state.waiting = []
                    state.queued = PoolUse()
                }
                return state.waiting
            }
            for waiting in left { waiting.job() }
        }
    }

    private func work() {
        while let next = next() {
            next.job()
            // What this client's share kept waiting may run now: one job, which this thread looks for itself.
            state.update(waking: .nobody) { $0.running.remove(next.beneficiary) }
        }
    }

    /// The next job; nil when there was none for a while, and the thread is no longer counted.
    private func next() -> Waiting? {
        state.update(waking: .nobody) { $0.idle += 1 }
        let found: Waiting? = state.wait(milliseconds: lingerMilliseconds) { state in
            guard let next = take(&state) else { return nil }
            state.idle -= 1
            return next
        }
        guard found == nil else { return found }
        // One may have come since.
        return state.update(waking: .nobody) { state in
            state.idle -= 1
            if let next = take(&state) { return next }
            state.threads -= 1
            return nil
        }
    }

    private func take(_ state: inout State) -> Waiting? {
        guard let index = shares.next(of: state.waiting.map(\.beneficiary), running: state.running) else { return nil }
        let next = state.waiting.remove(at: index)
        state.queued.remove(next.beneficiary)
        state.running.add(next.beneficiary)
        return next
    }
}

/// How many jobs there are, by role and by user.
struct PoolUse: Hashable, Sendable {
    private(set) var total = 0
    private var roles: [Role: Int] = [:]
    private var users: [UInt32: Int] = [:]

    /// Of clients with this role and those below it.
    func count(upTo role: Role) -> Int { roles.reduce(0) { $0 + ($1.key <= role ? $1.value : 0) } }

    func count(uid: UInt32) -> Int { users[uid, default: 0] }

    mutating func add(_ beneficiary: Beneficiary) { change(beneficiary, by: 1) }

    mutating func remove(_ beneficiary: Beneficiary) { change(beneficiary, by: -1) }

    private mutating func change(_ beneficiary: Beneficiary, by difference: Int) {
        total += difference
        guard case .client(let uid, let role) = beneficiary else { return }
        roles[role, default: 0] += difference
        let count = users[uid, default: 0] + difference
        users[uid] = count > 0 ? count : nil
    }
}

/// Who may have how many threads of a pool. Pure.
struct PoolShares: Hashable, Sendable {
    let threads: Int

    /// Threads that clients with this role and those below it have together: admins leave an eighth to tdxd itself, operators a
    /// quarter to them and to it, observers half. One at least.
    func threads(upTo role: Role) -> Int {
        switch role {
        case .admin: max(1, threads - max(1, threads / 8))
        case .operate: max(1, min(threads * 3 / 4, threads(upTo: .admin) - 1))
        case .observe, .none: max(1, min(threads / 2, threads(upTo: .operate) - 1))
        }
    }

    /// Threads of one user who is not an admin: half of what its role has, so that one never has all.
    func threadsPerUser(_ role: Role) -> Int {
        role == .admin ? threads(upTo: .admin) : max(1, threads(upTo: role) / 2)
    }

    /// Jobs of one user that may wait; nil for as many as it has connections.
    static func waitingPerUser(_ role: Role) -> Int? {
        switch role {
        case .admin: nil
        case .operate: 16
        case .observe, .none: 8
        }
    }

    func mayRun(_ beneficiary: Beneficiary, _ running: PoolUse) -> Bool {
        guard case .client(let uid, let role) = beneficiary else { return true }
        // Whoever takes a thread takes it from the higher roles' too, which must not go below what is left to those above them.
        let hasThread = Role.allCases.allSatisfy { $0 < role || running.count(upTo: $0) < threads(upTo: $0) }
        return hasThread && running.count(uid: uid) < threadsPerUser(role)
    }

    func mayWait(_ beneficiary: Beneficiary, _ queued: PoolUse) -> Bool {
        guard case .client(let uid, let role) = beneficiary, let limit = Self.waitingPerUser(role) else { return true }
        return queued.count(uid: uid) < limit
    }

    /// Which of those that wait runs next: tdxd's own work, then the highest role, then the user with fewest threads, then who came
    /// first. Nil where none may run.
    /// - Complexity: O(`waiting.count`).
    func next(of waiting: [Beneficiary], running: PoolUse) -> Int? {
        var best: (index: Int, role: Int, threads: Int)?
        for (index, beneficiary) in waiting.enumerated() {
            guard case .client(let uid, let role) = beneficiary else { return index }
            guard mayRun(beneficiary, running) else { continue }
            let threads = running.count(uid: uid)
            if let best, (best.role, -best.threads) >= (role.rawValue, -threads) { continue }
            best = (index, role.rawValue, threads)
        }
        return best?.index
    }
}
