import ControlInterface
import Glibc
import LinuxSystem
import Synchronization
import Testing
import Varlink

/// What of the host's memory is private, over all TDs, by page.
@Suite(.serialized) struct InventoryTests {
    static let page: UInt64 = 4096

    struct Told {
        var domains: [InventoryDomain] = []
        var runs: [String: [MemoryRun]] = [:]
        var cuts: [String: String] = [:]
        var total: InventoryTotal?
        var answers = 0

        subscript(name: String) -> InventoryDomain? { domains.first { $0.name == name } }

        func runs(of name: String) -> [MemoryRun] { self[name].flatMap { runs[$0.id] } ?? [] }
    }

    private func inventory(_ host: PrivateHost, ranges: Bool) throws -> Told {
        var told = Told()
        try host.client().callMore(
            ManagerInterface.Inventory.method, ManagerInterface.Inventory.Parameters(ranges: ranges),
            as: ManagerInterface.Inventory.Reply.self, timeout: .seconds(300)
        ) { reply, isLast in
            told.answers += 1
            #expect(isLast == (reply.total != nil))
            #expect((reply.domains ?? []).count <= ManagerInterface.Inventory.mostDomains)
            #expect((reply.ranges ?? []).reduce(0) { $0 + $1.runs.count } <= ManagerInterface.Inventory.mostRanges)
            told.domains += reply.domains ?? []
            for part in reply.ranges ?? [] {
                #expect(told.domains.contains { $0.id == part.id }, "ranges came before their TD")
                told.runs[part.id, default: []] += part.runs
                if let cut = part.cut { told.cuts[part.id] = cut }
            }
            told.total = reply.total ?? told.total
        }
        return told
    }

    /// Figures and ranges of a TD say the same, and the ranges ascend.
    private func checkAgreement(_ domain: InventoryDomain, _ runs: [MemoryRun]) {
        #expect(domain.source == .map && domain.ranges == runs.count && domain.sequence != nil, "\(domain)")
        let bytes = { (isPrivate: Bool) in
            runs.filter { ($0.attribute == .private) == isPrivate }.reduce(0) { $0 + $1.bytes }
        }
        #expect(bytes(true) == domain.privateBytes && bytes(false) == domain.convertingBytes, "\(domain)")
        #expect(!runs.contains { $0.attribute == .shared })
        #expect(zip(runs, runs.dropFirst()).allSatisfy { $0.gpa + $0.bytes <= $1.gpa })
    }

    @Test func `ranges over all TDs are those of their maps, and the sums are theirs`() throws {
        let host = try PrivateHost()
        for name in ["web1", "web2", "web3"] { _ = try host.create(name) }
        _ = try host.convert("web2", gpa: 4 << 20, bytes: 2 << 20, to: .shared)
        _ = try host.convert("web3", gpa: 0, bytes: 64 << 20, to: .shared)
        let told = try inventory(host, ranges: true)
        #expect(told.domains.map(\.name) == ["web1", "web2", "web3"])
        for domain in told.domains {
            checkAgreement(domain, told.runs(of: domain.name))
            let map: ManagerInterface.Map.Reply = try host.client().call(
                ManagerInterface.Map.method, ManagerInterface.Show.Parameters(name: domain.name), timeout: .seconds(60))
            #expect(told.runs(of: domain.name) == map.runs.filter { $0.attribute != .shared })
        }
        let total = try #require(told.total)
        #expect(total.domains == 3 && total.ranges == 3 && total.wholeDomains == 0 && total.withoutRanges == 0)
        #expect(total.privateBytes == 126 << 20 && total.convertingBytes == 0 && total.emulated)
        // Without ranges the figures are the same, and who wants one answer gets the sums.
        let short = try inventory(host, ranges: false)
        #expect(short.domains.map(\.privateBytes) == [64 << 20, 62 << 20, 0])
        #expect(short.domains.allSatisfy { $0.ranges == nil && $0.sequence == nil } && short.runs.isEmpty)
        let sums: ManagerInterface.Inventory.Reply = try host.client().call(
            ManagerInterface.Inventory.method, ManagerInterface.Inventory.Parameters(ranges: true),
            timeout: .seconds(60))
        #expect(sums == ManagerInterface.Inventory.Reply(total: total))
    }

    @Test func `each TD is of one moment while others convert it`() throws {
        let host = try PrivateHost()
        for name in ["web1", "web2"] { _ = try host.create(name) }
        let isDone = Atomic(false)
        let seen = inParallel(3) { index -> Result<[Told], any Error> in
            guard index == 2 else {
                // Every change leaves an even number of shared pages: one that is half done shows.
                var place: UInt64 = 0
                while !isDone.load(ordering: .acquiring) {
                    place = (place + 37) % 8000
                    for side in [MemorySide.shared, .private] {
                        _ = try? host.convert("web\(index + 1)", gpa: place * Self.page, bytes: 64 << 12, to: side)
                    }
                }
                return .success([])
            }
            defer { isDone.store(true, ordering: .releasing) }
            return Result { try (0..<40).map { _ in try self.inventory(host, ranges: true) } }
        }
        let all = try seen[2].get()
        #expect(all.count == 40)
        var last: [String: Int64] = [:]
        for told in all {
            #expect(told.domains.map(\.name) == ["web1", "web2"] && told.cuts.isEmpty)
            for domain in told.domains {
                checkAgreement(domain, told.runs(of: domain.name))
                let sequence = domain.sequence ?? -1
                #expect(sequence >= last[domain.name, default: 0], "a later inventory is of an earlier moment")
                last[domain.name] = sequence
                // All that is not told is shared: what converts at the moment is told.
                #expect(domain.privateBytes + domain.convertingBytes >= domain.memoryBytes - 64 << 12)
            }
        }
        #expect(last.values.allSatisfy { $0 > 0 })
    }

    @Test func `a TD whose holder was killed is counted whole until it is proven back`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        // Somebody else keeps a file of the TD open, so that its end cannot be proven.
        let files = try TextFile.list("/proc/\(host.pid)/fd").compactMap { name -> Int32? in
            let path = "/proc/\(host.pid)/fd/\(name)"
            guard let target = try? TextFile.linkTarget(path), target.contains("memfd") else { return nil }
            let file = open(path, O_RDWR | O_CLOEXEC)
            return file >= 0 ? file : nil
        }
        try #require(!files.isEmpty)
        _ = try host.create("web2")
        kill(domain.holderPID, SIGKILL)
        var told = try inventory(host, ranges: true)
        #expect(
            try eventually {
                told = try inventory(host, ranges: true)
                return told["web1"]?.state == .draining && told["web1"]?.source == .whole
            }, "\(host.log)")
        let failed = try #require(told["web1"])
        #expect(failed.privateBytes == failed.memoryBytes && failed.ranges == nil && failed.sequence == nil)
        #expect(failed.reason?.hasPrefix("not proven back: ") == true, "\(failed)")
        #expect(told["web2"]?.source == .map && told.total?.wholeDomains == 1 && told.total?.withoutRanges == 1)
        for file in files { close(file) }
        #expect(try eventually { try inventory(host, ranges: true)["web1"] == nil }, "\(host.log)")
        #expect(try inventory(host, ranges: false).total?.privateBytes == 64 << 20)
    }

    @Test func `a TD that has ended and whose memory is held is counted whole`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        try host.makeResident(8 << 20)
        _ = try host.stop(ManagerInterface.Stop.Parameters(name: "web1", policy: .deferred))
        let told = try inventory(host, ranges: true)
        #expect(told["web1"]?.source == .whole && told["web1"]?.state == .draining)
        #expect(told.total?.privateBytes == 64 << 20)
        _ = try host.reclaim("web1")
        #expect(try inventory(host, ranges: true).domains.isEmpty)
    }

    @Test func `of a holder that is stuck the bytes are known, and that ranges are not is said`() throws {
        let host = try PrivateHost(settings: "[deadlines]\nholder_reply = 500ms")
        let domain = try host.create("stuck")
        _ = try host.create("well")
        _ = try host.convert("stuck", gpa: 0, bytes: 2 << 20, to: .shared)
        kill(domain.holderPID, SIGSTOP)
        defer { kill(domain.holderPID, SIGCONT) }
        let told = try inventory(host, ranges: true)
        #expect(told["stuck"]?.source == .map && told["stuck"]?.privateBytes == 62 << 20)
        #expect(told["stuck"]?.ranges == nil && told["stuck"]?.reason?.hasPrefix("no ranges: ") == true)
        #expect(told["well"] != nil && told.total?.withoutRanges ?? 0 >= 1 && told.total?.wholeDomains == 0)
    }

    /// Every second page of a TD is shared.
    private func fragment(_ host: PrivateHost, _ name: String, pages: UInt64) throws {
        let client = try host.client()
        for page in stride(from: 0, to: pages, by: 2) {
            let _: ManagerInterface.Convert.Reply = try client.call(
                ManagerInterface.Convert.method,
                ManagerInterface.Convert.Parameters(name: name, gpa: page * Self.page, bytes: Self.page, to: .shared),
                timeout: .seconds(300))
        }
    }

    @Test func `a reader that stops reading holds up neither others nor the TD's end`() throws {
        let host = try PrivateHost(settings: "[deadlines]\nclient = 600s")
        _ = try host.create("web1", mebibytes: 96)
        // 12,000 ranges: three answers, of which a socket takes less than two.
        try fragment(host, "web1", pages: 24_000)
        // As many as one user may have: none of them reads.
        let message =
            Array(
                #"{"method":"io.tdxd.Manager.Inventory","parameters":{"ranges":true},"more":true}"#.utf8) + [0]
        var readers = try (0..<4).map { _ in try RudeClientTests.Raw(host) }
        for reader in readers { reader.send(message) }
        // The fifth is told so; the four count from when tdxd has seen them.
        #expect(
            eventually {
                if case .tryAgain(let reason)? = refusal({ _ = try inventory(host, ranges: true) }) {
                    return reason.contains("4 inventories")
                }
                return false
            }, "\(host.log)")
        #expect(try host.show("web1").state == .runnable)
        let certificate = try host.stop("web1")
        #expect(certificate.complete, "\(certificate)")
        #expect(eventually { host.leavesNothing() })
        // The rest of what was told is cut off, and said to be.
        let rest = readers[0].readLines { $0.contains("\"total\"") }
        #expect(rest.contains("the TD has ended meanwhile"), "\(rest.suffix(400))")
        readers = []
        #expect(eventually { (try? inventory(host, ranges: true))?.domains.isEmpty == true })
    }

    @Test func `a fragmented map comes in bounded answers, and leaves no descriptor`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        try fragment(host, "web1", pages: 16_384)
        let told = try inventory(host, ranges: true)
        let domain = try #require(told["web1"])
        checkAgreement(domain, told.runs(of: "web1"))
        #expect(domain.ranges == 8192 && told.answers >= 3)
        let descriptors = try TextFile.list("/proc/\(host.pid)/fd").count
        for _ in 0..<10 { _ = try inventory(host, ranges: true) }
        // Files of ranges are gone with who read them.
        #expect(
            try eventually {
                try !TextFile.list("/proc/\(host.pid)/fd").contains { name in
                    (try? TextFile.linkTarget("/proc/\(host.pid)/fd/\(name)"))?.contains("private-ranges") == true
                }
            })
        #expect(try TextFile.list("/proc/\(host.pid)/fd").count <= descriptors + 4)
    }

    @Test func `tdxctl shows it as a table, range by range, and as JSON`() throws {
        let host = try PrivateHost()
        #expect(try host.tdxctl("inventory").output.hasPrefix("0 TDs: 0 B private, 0 B converting ["))
        _ = try host.create("web1")
        _ = try host.convert("web1", gpa: 4 << 20, bytes: 2 << 20, to: .shared)
        let table = try host.tdxctl("inventory")
        #expect(table.status == 0 && table.output.contains("62 MiB") && table.output.contains("memfd (emulated)"))
        let text = try host.tdxctl("inventory", "--ranges").output
        #expect(text.contains("0x0000000000–0x0000400000  4 MiB  private"), "\(text)")
        #expect(text.contains("1 TD: 62 MiB private, 0 B converting, 2 ranges [memfd (emulated)]"), "\(text)")
        let json = try JSONValue(host.tdxctl("inventory", "--json=short"))
        #expect(json["total"]["private_bytes"] == .number(Double(62 << 20)))
        #expect(json["domains"].elements.map { $0["sequence"] } == [.null])
        let lines = try host.tdxctl("inventory", "--ranges", "--json=short")
        #expect(lines.status == 0)
        #expect(lines.output.split(separator: "\n").last?.contains("\"total\":{") == true)
    }
}

extension RudeClientTests.Raw {
    /// Reads messages until one is so; gives all of them.
    func readLines(until isLast: (String) -> Bool) -> String {
        let all = read { bytes in
            guard bytes.last == 0 else { return false }
            return isLast(String(decoding: bytes.dropLast().split(separator: 0).last ?? [], as: UTF8.self))
        }
        return String(decoding: all, as: UTF8.self)
    }
}
