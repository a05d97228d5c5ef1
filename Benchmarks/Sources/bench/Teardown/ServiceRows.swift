import CPeers
import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Synchronization
import Varlink

/// TDs of a real tdxd: client, tdxd, holder and the proofs.
private struct Service: Sendable {
    let socket: String

    init() throws {
        guard let socket = getenv("TDXD_BENCH_SOCKET") else {
            throw Unavailable("no tdxd to ask (TDXD_BENCH_SOCKET); scripts/bench starts one")
        }
        self.socket = String(cString: socket)
    }

    private static let patience = Duration.seconds(600)

    func client() throws -> VarlinkClient { try VarlinkClient.connect(socket) }

    /// A TD whose private memory is all resident, in guest_memfds.
    func create(_ name: String, _ size: ByteCount, isResident: Bool = true) throws {
        var made: TrustDomain?
        try client().callMore(
            ManagerInterface.Create.method,
            ManagerInterface.Create.Parameters(
                name: name, memoryBytes: size.rawValue, vcpus: 1, preallocate: isResident),
            as: ManagerInterface.Create.Reply.self, timeout: Self.patience
        ) { reply, _ in made = reply.domain ?? made }
        guard let made else { throw Unavailable("tdxd made no TD") }
        guard made.backend != .memfd else { throw Unavailable("tdxd has no backend with guest_memfds here") }
        guard !isResident || (made.residentPrivateBytes ?? 0) >= size.rawValue else {
            throw Unavailable("not all memory of a TD is resident")
        }
    }

    /// What a stop took, in milliseconds as its client sees it: until the answer, and until a GiB was reported back.
    struct Times {
        var answer = 0.0
        var firstGibibyte: Double?
    }

    /// Stops a TD until it is proven, or with policy deferred until it runs no more.
    func stop(_ name: String, isDeferred: Bool = false) throws -> Times {
        let client = try client()
        let start = peer_now()
        var times = Times()
        var certificate: TeardownCertificate?
        try client.callMore(
            ManagerInterface.Stop.method,
            ManagerInterface.Stop.Parameters(name: name, policy: isDeferred ? .deferred : nil),
            as: ManagerInterface.Stop.Reply.self, timeout: Self.patience
        ) { reply, _ in
            if times.firstGibibyte == nil, (reply.progress?.doneBytes ?? 0) >= 1 << 30 {
                times.firstGibibyte = Double(peer_now() - start) / 1e6
            }
            certificate = reply.certificate ?? certificate
        }
        times.answer = Double(peer_now() - start) / 1e6
        guard let certificate else { throw Unavailable("tdxd answered without a certificate") }
        guard isDeferred ? certificate.pending != nil : certificate.complete else {
            throw Unavailable("the end of a TD is not proven: \(certificate.proofs.filter { !$0.holds })")
        }
        return times
    }

    func reclaim(_ name: String) throws {
        try client().callMore(
            ManagerInterface.Reclaim.method, ManagerInterface.Reclaim.Parameters(name: name),
            as: ManagerInterface.Reclaim.Reply.self, timeout: Self.patience
        ) { _, _ in }
    }
}

/// The C program that most VMMs are, until it has been reaped; milliseconds.
private func peerProgram(_ size: ByteCount) throws -> Double {
    let program = peer_program_start(size.rawValue)
    guard program.pid > 0 else { throw Unavailable("the peer got no memory") }
    return try checked(peer_program_end(program)) / 1e6
}

/// One TD of 8 GiB through tdxd, against a program that just goes.
func measureServiceStop(_ report: inout Report) throws {
    let service = try Service()
    let size = ByteCount.gibibytes(8)
    var firsts: [Double] = []
    let medians = try interleaved(
        runs: report.runs,
        [
            {
                try service.create("bench", size)
                let times = try service.stop("bench")
                guard let first = times.firstGibibyte else { throw Unavailable("no progress of 1 GiB was reported") }
                firsts.append(first)
                return times.answer
            },
            {
                try service.create("bench", size)
                let times = try service.stop("bench", isDeferred: true)
                try service.reclaim("bench")
                return times.answer
            },
            { try peerProgram(size) },
        ])
    let peer = "C, a program that closes one guest_memfd of 8 GiB and exits"
    let rows: [(String, Double, Double)] = [
        ("stop of a TD with 8 GiB resident through tdxd, until proven", medians[0], 0.65),
        ("the same until “stopped” (policy deferred)", medians[1], 0.05),
        ("first GiB of it available again, as tdxd reports it", median(firsts), 0.2),
    ]
    for (what, ours, limit) in rows {
        report.rows.append(
            Row(
                report.area, what, Pair(ours: ours, peer: medians[2]), "ms", against: peer, .ratio(atMost: limit)))
    }
}

/// 16 TDs of 512 MiB stopped by 16 clients, against one client that stops one after another.
func measureManyServiceStops(_ report: inout Report) throws {
    let service = try Service()
    let names = (0..<16).map { "bench\($0)" }
    func make() throws { for name in names { try service.create(name, .mebibytes(512)) } }
    let pair = try interleaved(
        runs: report.runs,
        ours: {
            try make()
            let failures = Atomic<Int>(0)
            let time = try nanoseconds {
                let threads = try names.map { name in
                    try SystemThread(name: "bench-stop") {
                        do { _ = try service.stop(name) } catch { failures.add(1, ordering: .relaxed) }
                    }
                }
                for thread in threads { thread.join() }
            }
            guard failures.load(ordering: .relaxed) == 0 else { throw Unavailable("a stop failed") }
            return time / 1e6
        },
        peer: {
            try make()
            return try nanoseconds { for name in names { _ = try service.stop(name) } } / 1e6
        })
    report.rows.append(
        Row(
            report.area, "16 TDs of 512 MiB stopped at once through tdxd", pair, "ms", against: "one after another",
            .ratio(atMost: 0.6)))
}

/// What another TD's user notices while 8 GiB are released: conversions of 2 MiB and looks at it, in turns.
func measureNeighbour(_ report: inout Report) throws {
    let service = try Service()
    try service.create("neighbour", .mebibytes(256), isResident: false)
    defer { _ = try? service.stop("neighbour") }
    let client = try service.client()

    /// Milliseconds of each request until `isOver`.
    func requests(until isOver: () -> Bool) throws -> [Double] {
        var times: [Double] = []
        var side = MemorySide.shared
        while !isOver() {
            times.append(
                try nanoseconds {
                    _ = try client.call(
                        ManagerInterface.Convert.method,
                        ManagerInterface.Convert.Parameters(name: "neighbour", gpa: 0, bytes: 2 << 20, to: side),
                        as: ManagerInterface.Convert.Reply.self)
                } / 1e6)
            side = side == .shared ? .private : .shared
            times.append(
                try nanoseconds {
                    _ = try client.call(
                        ManagerInterface.Show.method, ManagerInterface.Show.Parameters(name: "neighbour"),
                        as: ManagerInterface.Show.Reply.self)
                } / 1e6)
        }
        return times
    }
    func percentile(_ times: [Double]) throws -> Double {
        guard times.count >= 100 else { throw Unavailable("only \(times.count) requests in that time") }
        return times.sorted()[times.count * 99 / 100]
    }
    let pair = try interleaved(
        runs: report.runs,
        ours: {
            try service.create("bench", .gibibytes(8))
            let isOver = Atomic<Bool>(false)
            let failure = Mutex<String?>(nil)
            let stopper = try SystemThread(name: "bench-stop") {
                do { _ = try service.stop("bench") } catch { failure.withLock { $0 = "\(error)" } }
                isOver.store(true, ordering: .releasing)
            }
            defer { stopper.join() }
            let times = try requests { isOver.load(ordering: .acquiring) }
            if let failure = failure.withLock({ $0 }) { throw Unavailable(failure) }
            return try percentile(times)
        },
        peer: {
            let end = peer_now() + 1_000_000_000
            return try percentile(try requests { peer_now() >= end })
        })
    report.rows.append(
        Row(
            report.area, "another TD's requests while 8 GiB are released: 99th percentile", pair, "ms",
            against: "while nothing is released", .value(atMost: 5, "ms")))
}
