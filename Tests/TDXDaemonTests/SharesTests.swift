import ControlInterface
import Glibc
import LinuxSystem
import ServiceSupport
import Synchronization
import Testing
import Varlink

@testable import TDXDaemon

@Suite struct RoleSharesTests {
    @Test(arguments: [4, 8, 128, 4096])
    func `lower roles leave connections to higher ones, and nobody without a role has any`(total: Int) throws {
        var configuration = TDXDConfiguration()
        configuration.limits.connections = total
        configuration.limits.connectionsPerUser = total
        let shares = RoleShares(configuration)
        #expect(shares.share(of: .none) == nil)
        let observe = try #require(shares.share(of: .observe))
        let operate = try #require(shares.share(of: .operate))
        let admin = try #require(shares.share(of: .admin))
        #expect(observe.connections < operate.connections && operate.connections < admin.connections)
        #expect(observe.rank < operate.rank && operate.rank < admin.rank)
        #expect(admin.connections == total)
        // One user never has what its whole role has, where there is more than one place.
        if observe.connections > 1 { #expect(observe.connectionsPerUser < observe.connections) }
        if operate.connections > 1 { #expect(operate.connectionsPerUser < operate.connections) }
        #expect(observe.unreadBytesPerUser <= operate.unreadBytesPerUser)
    }

    @Test func `a user's limit of the configuration holds for every role`() {
        var configuration = TDXDConfiguration()
        configuration.limits.connectionsPerUser = 3
        let shares = RoleShares(configuration)
        for role in [Role.observe, .operate, .admin] { #expect(shares.share(of: role)?.connectionsPerUser == 3) }
    }
}

@Suite struct PoolSharesTests {
    static func client(_ uid: UInt32, _ role: Role) -> Beneficiary { .client(uid: uid, role: role) }

    /// Runs jobs of the beneficiaries, in turn, until none may.
    static func fill(_ shares: PoolShares, _ beneficiaries: [Beneficiary]) -> PoolUse {
        var running = PoolUse()
        while let next = beneficiaries.first(where: { shares.mayRun($0, running) }), running.total < 1000 {
            running.add(next)
        }
        return running
    }

    @Test(arguments: [4, 8, 16, 64, 128])
    func `whatever lower roles take, a thread is left for an admin, and one for the daemon`(threads: Int) {
        let shares = PoolShares(threads: threads)
        let strangers = Self.fill(shares, (1...50).map { Self.client(UInt32($0), .observe) })
        #expect(strangers.total <= threads / 2)
        let users = Self.fill(
            shares, (1...50).flatMap { [Self.client(UInt32($0), .observe), Self.client(UInt32(100 + $0), .operate)] })
        #expect(users.total < threads)
        #expect(shares.mayRun(Self.client(0, .admin), users))
        let everybody = Self.fill(
            shares, (1...50).map { Self.client(UInt32($0), .operate) } + [Self.client(0, .admin)])
        #expect(everybody.total < threads)
    }

    @Test func `one user has at most half of what its role has`() {
        let shares = PoolShares(threads: 16)
        let one = Self.fill(shares, [Self.client(1000, .observe)])
        #expect(one.total == 4)
        #expect(shares.mayRun(Self.client(1001, .observe), one))
    }

    @Test func `the daemon's work goes first, then admins, then who has least`() {
        let shares = PoolShares(threads: 16)
        var running = PoolUse()
        running.add(Self.client(1000, .operate))
        let waiting = [
            Self.client(1000, .operate), Self.client(1001, .operate), Self.client(0, .admin), .daemon,
        ]
        #expect(shares.next(of: waiting, running: running) == 3)
        #expect(shares.next(of: Array(waiting.prefix(3)), running: running) == 2)
        #expect(shares.next(of: Array(waiting.prefix(2)), running: running) == 1)
    }

    @Test func `a user with enough calls waiting is refused, an admin never`() {
        let shares = PoolShares(threads: 4)
        var queued = PoolUse()
        for _ in 0..<8 { queued.add(Self.client(1000, .observe)) }
        #expect(!shares.mayWait(Self.client(1000, .observe), queued))
        #expect(shares.mayWait(Self.client(1001, .observe), queued))
        for _ in 0..<500 { queued.add(Self.client(0, .admin)) }
        #expect(shares.mayWait(Self.client(0, .admin), queued))
    }

    @Test func `what is taken is given back`() {
        var use = PoolUse()
        let all = [Self.client(1, .observe), Self.client(1, .observe), Self.client(2, .operate), .daemon]
        for beneficiary in all { use.add(beneficiary) }
        #expect(use.count(upTo: .observe) == 2 && use.count(upTo: .admin) == 3 && use.total == 4)
        for beneficiary in all { use.remove(beneficiary) }
        #expect(use.total == 0 && use.count(uid: 1) == 0 && use.count(upTo: .admin) == 0)
    }
}

@Suite struct SharedWorkerPoolTests {
    @Test func `a client that blocks its whole share keeps no one else waiting`() throws {
        let pool = WorkerPool(name: "test", limit: 8, lingerMilliseconds: 50)
        let isOver = Atomic(false)
        var taken = 0
        while pool.submit(
            for: .client(uid: 1000, role: .observe), { while !isOver.load(ordering: .acquiring) { usleep(500) } }),
            taken < 100
        {
            taken += 1
        }
        // Two run and eight wait; which of them had begun when the last one was refused does not matter.
        #expect((8...10).contains(taken))
        for beneficiary in [Beneficiary.daemon, .client(uid: 0, role: .admin), .client(uid: 1001, role: .observe)] {
            let isDone = Atomic(false)
            #expect(pool.submit(for: beneficiary) { isDone.store(true, ordering: .releasing) })
            while !isDone.load(ordering: .acquiring) { usleep(500) }
        }
        isOver.store(true, ordering: .releasing)
        while pool.count > 0 { usleep(500) }
    }
}

@Suite struct SharedProbeTests {
    @Test func `all that ask while a probe runs have its report, and so have those that ask soon after`() throws {
        let probe = SharedProbe()
        let runs = Atomic(0)
        let answers = Atomic(0)
        let pending = Mutex<[@Sendable () -> Void]>([])
        func ask() {
            probe.ask(
                start: { job in pending.withLock { $0.append(job) } },
                run: {
                    runs.add(1, ordering: .relaxed)
                    return .success(HostReport(backend: .memfd, reason: "test", checks: []))
                }, then: { _ in answers.add(1, ordering: .relaxed) })
        }
        for _ in 0..<100 { ask() }
        let jobs = pending.withLock { $0 }
        #expect(jobs.count == 1 && answers.load(ordering: .relaxed) == 0)
        for job in jobs { job() }
        #expect(answers.load(ordering: .relaxed) == 100)
        ask()
        #expect(runs.load(ordering: .relaxed) == 1 && answers.load(ordering: .relaxed) == 101)
    }

    @Test func `a failed probe is tried again for the next that asks`() {
        let probe = SharedProbe()
        let failures = Atomic(0)
        for _ in 0..<3 {
            probe.ask(
                start: { $0() }, run: { .failure(.tryAgain(reason: "test")) },
                then: { if case .failure = $0 { failures.add(1, ordering: .relaxed) } })
        }
        #expect(failures.load(ordering: .relaxed) == 3)
    }
}

@Suite struct UnsandboxedProcReaderTests {
    @Test func `one look serves all that ask meanwhile, and each gets one that began after it asked`() throws {
        let looks = Atomic(0)
        let mayEnd = Atomic(0)
        let sought = Mutex<[Set<FileIdentity>]>([])
        let procReader = try UnsandboxedProcReader { files in
            let number = looks.add(1, ordering: .sequentiallyConsistent).newValue
            sought.withLock { $0.append(files) }
            while mayEnd.load(ordering: .sequentiallyConsistent) < number { usleep(500) }
            let holders = files.map { InodeHolders.Holder(pid: Int32(number), file: $0, means: .descriptor(3)) }
            return .success((InodeHolders(holders: holders, unseen: [], processesSeen: 1), false))
        }
        let answers = Mutex<[Int32]>([])
        func ask(_ inode: UInt64) throws -> SystemThread {
            try SystemThread(name: "ask") {
                let file = FileIdentity(device: 1, inode: inode)
                guard case .success((let found, _)) = procReader.holders(of: [file]) else { return }
                // Nobody hears of another's files.
                if found.holders.map(\.file) == [file] { answers.withLock { $0.append(found.holders[0].pid) } }
            }
        }
        var threads = [try ask(1)]
        while looks.load(ordering: .sequentiallyConsistent) < 1 { usleep(500) }
        for inode in 2...9 { threads.append(try ask(UInt64(inode))) }
        usleep(100_000)
        mayEnd.store(1, ordering: .sequentiallyConsistent)
        while looks.load(ordering: .sequentiallyConsistent) < 2 { usleep(500) }
        mayEnd.store(100, ordering: .sequentiallyConsistent)
        for thread in threads { thread.join() }
        #expect(answers.withLock { $0.count } == 9)
        #expect(answers.withLock { $0.count { $0 == 1 } } == 1)
        // All but the first came while that looked; a thread that was late itself takes one more at most each.
        #expect(sought.withLock { $0.count } < 9)
    }
}
