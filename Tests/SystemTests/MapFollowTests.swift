import ControlInterface
import FoundationEssentials
import Glibc
import LinuxSystem
import Synchronization
import Testing
import Varlink

/// Readers out of process that follow the conversions of a TD.
@Suite(.serialized) struct MapFollowTests {
    static let page: UInt64 = 4096
    static let memory: UInt64 = 64 << 20

    /// Pages by number, as a reader of the stream knows them.
    struct Replica: Equatable {
        var pages: [UInt64: PageAttribute] = [:]

        mutating func apply(_ runs: [MemoryRun], isWhole: Bool) {
            if isWhole { pages = [:] }
            for run in runs {
                for number in run.gpa / page..<(run.gpa + run.bytes) / page { pages[number] = run.attribute }
            }
        }
    }

    /// Small enough to be told whole.
    private static func ranges(_ count: Int, seed: UInt64) -> [(gpa: UInt64, bytes: UInt64, to: MemorySide)] {
        print("seed \(seed)")
        var state = seed
        func next(_ bound: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % bound
        }
        return (0..<count).map { _ in
            let pages = 1 + next(64)
            let first = next(memory / page - pages)
            return (first * page, pages * page, next(2) == 0 ? .shared : .private)
        }
    }

    private func changes(
        _ client: VarlinkClient, since: Int64?, wait: Int64 = 10_000
    ) throws -> ManagerInterface.MapChanges.Reply {
        try client.call(
            ManagerInterface.MapChanges.method,
            ManagerInterface.MapChanges.Parameters(name: "web1", since: since, waitMilliseconds: wait),
            timeout: .seconds(60))
    }

    private func map(_ host: PrivateHost) throws -> Replica {
        let reply: ManagerInterface.Map.Reply = try host.client().call(
            ManagerInterface.Map.method, ManagerInterface.Show.Parameters(name: "web1"), timeout: .seconds(60))
        var replica = Replica()
        replica.apply(reply.runs, isWhole: true)
        return replica
    }

    @Test func `a follower that replays the stream ends with exactly the map`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let wanted = Self.ranges(300, seed: 20_261)
        let isDone = Atomic(false)
        // One converts while the other follows; what it has at the end must be what the map is.
        let followed = inParallel(2) { index -> Result<Replica, any Error>? in
            if index == 0 {
                defer { isDone.store(true, ordering: .releasing) }
                for range in wanted {
                    _ = try? host.convert("web1", gpa: range.gpa, bytes: range.bytes, to: range.to)
                }
                return nil
            }
            return Result { try follow(try host.client()) { isDone.load(ordering: .acquiring) } }
        }
        let replica = try #require(followed[1]).get()
        let expected = try map(host)
        #expect(replica == expected)
        #expect(replica.pages.count == Int(Self.memory / Self.page))
        #expect(Set(replica.pages.values) == [.private, .shared])
    }

    /// Until nothing more comes once `isDone`.
    private func follow(_ client: VarlinkClient, until isDone: () -> Bool) throws -> Replica {
        var replica = Replica()
        var reached: Int64?
        while true {
            let wasDone = isDone()
            let next = try changes(client, since: reached, wait: 20)
            if let reached, !next.snapshot { #expect(next.sequence >= reached) }
            #expect(reached != nil || (next.snapshot && next.emulated))
            replica.apply(next.runs, isWhole: next.snapshot)
            if wasDone, reached == next.sequence { return replica }
            reached = next.sequence
        }
    }

    @Test func `a reader waits for the next change and hears of it, or of none`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let now = try changes(try host.client(), since: nil).sequence
        let none = try changes(try host.client(), since: now, wait: 50)
        #expect(none.runs.isEmpty && !none.snapshot && none.sequence == now)
        let heard = inParallel(2) { index -> ManagerInterface.MapChanges.Reply? in
            if index == 0 {
                // The other may ask before or after: it hears of it in both cases.
                _ = try? host.convert("web1", gpa: 0x20_0000, bytes: 8192, to: .shared)
                return nil
            }
            // Asked in the middle of the conversion, the first answer has its beginning alone.
            var told = (try? host.client()).flatMap { try? changes($0, since: now, wait: 60_000) }
            while let last = told, last.runs.last?.attribute != .shared,
                let next = (try? host.client()).flatMap({ try? changes($0, since: last.sequence, wait: 60_000) })
            {
                told = next
                told?.runs = last.runs + next.runs
            }
            return told
        }
        let told = try #require(heard[1])
        #expect(
            told.runs == [
                MemoryRun(gpa: 0x20_0000, bytes: 8192, attribute: .convertingToShared),
                MemoryRun(gpa: 0x20_0000, bytes: 8192, attribute: .shared),
            ])
    }

    @Test func `who lies too far behind gets the whole map`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        _ = try host.convert("web1", gpa: 0x20_0000, bytes: 8192, to: .shared)
        // A number that has not happened is as bad as one that is no longer kept.
        let reply = try changes(try host.client(), since: 1 << 40)
        #expect(reply.snapshot && reply.runs.contains { $0.attribute == .shared })
        for (field, since, wait) in [("since", Int64(-1), Int64(0)), ("wait_ms", 0, -1), ("wait_ms", 0, 60_001)] {
            let refused = refusal { _ = try changes(try host.client(), since: since, wait: wait) }
            guard case .invalidField(field, _, _) = refused else {
                Issue.record("\(String(describing: refused))")
                continue
            }
        }
    }

    @Test func `a reader that waits hears of the TD's end`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let now = try changes(try host.client(), since: nil).sequence
        let ends = inParallel(2) { index -> ControlError? in
            if index == 0 {
                _ = try? host.stop("web1")
                return nil
            }
            return refusal { while true { _ = try changes(try host.client(), since: now, wait: 60_000) } }
        }
        switch ends[1] {
        case .wrongState, .noSuchDomain, .holderFailed: break
        default: Issue.record("\(String(describing: ends[1]))")
        }
        #expect(host.leavesNothing())
    }

    @Test func `tdxctl tells each change in a line until the TD ends`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let followed = host.directory + "/followed"
        let lines = inParallel(2) { index -> [String] in
            if index == 0 {
                _ = try? runProgram(
                    "/bin/sh", ["-c", "exec \"$TDXCTL\" map web1 --follow --since 0 --json=short >\"$OUTPUT\""],
                    environment: ["TDXD_SOCKET": host.socket, "TDXCTL": Programs.tdxctl, "OUTPUT": followed],
                    in: host.directory)
                return ((try? TextFile.read(followed)) ?? "").split(separator: "\n").map { String($0) }
            }
            // It follows once it has told how the TD was made.
            _ = eventually { (try? TextFile.read(followed))?.isEmpty == false }
            for range in Self.ranges(20, seed: 7) {
                _ = try? host.convert("web1", gpa: range.gpa, bytes: range.bytes, to: range.to)
            }
            _ = try? host.stop("web1")
            return []
        }
        let answers = try lines[0].map { try JSONDecoder().decode(JSONValue.self, from: Data($0.utf8)) }
        let sequences = answers.compactMap { $0["sequence"].number }
        #expect(sequences.count == answers.count && !answers.isEmpty)
        #expect(sequences == sequences.sorted())
    }

    static let script = """
        import sys, varlink
        client = varlink.Client.new_with_address("unix:" + sys.argv[1])
        with client.open("io.tdxd.Manager") as manager:
            pages, since, last, replayed = {}, 0, int(sys.argv[2]), 0
            while since < last:
                answer = manager.MapChanges(name="web1", since=since, wait_ms=10000)
                if answer["snapshot"]:
                    pages = {}
                else:
                    replayed += len(answer["runs"])
                for run in answer["runs"]:
                    for page in range(run["gpa"] // 4096, (run["gpa"] + run["bytes"]) // 4096):
                        pages[page] = run["attribute"]
                since = answer["sequence"]
            now = {}
            for run in manager.Map("web1")["runs"]:
                for page in range(run["gpa"] // 4096, (run["gpa"] + run["bytes"]) // 4096):
                    now[page] = run["attribute"]
            assert pages == now, "the replica differs"
        print("same", len(pages), "replayed" if replayed > 50 else "not replayed")
        """

    @Test(.enabled(if: PythonTests.python != nil, "no PyPI varlink package: run scripts/python-varlink-venv"))
    func `a follower in Python has the same map`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let wanted = Self.ranges(100, seed: 99)
        let start = try changes(try host.client(), since: nil).sequence
        // Each conversion is two changes; one of nothing is none, so the last is asked for afterwards.
        for range in wanted.prefix(50) {
            _ = try host.convert("web1", gpa: range.gpa, bytes: range.bytes, to: range.to)
        }
        let middle = try changes(try host.client(), since: nil).sequence
        #expect(middle > start)
        for range in wanted.suffix(50) {
            _ = try host.convert("web1", gpa: range.gpa, bytes: range.bytes, to: range.to)
        }
        let last = try changes(try host.client(), since: nil).sequence
        let result = try runProgram(
            PythonTests.python!, ["-c", Self.script, host.socket, String(last)], in: host.directory)
        #expect(result.output == "same \(Self.memory / Self.page) replayed\n", "\(result)\n\(host.log)")
    }
}
