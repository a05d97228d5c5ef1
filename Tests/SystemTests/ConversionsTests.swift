import ControlInterface
import FoundationEssentials
import Glibc
import LinuxSystem
import SystemPackage
import Testing
import Varlink

/// What users see of a TD's conversions: `tdxctl conversions` and the journal.
@Suite(.serialized) struct ConversionsTests {
    static let block: UInt64 = 2 << 20

    private func conversions(_ host: PrivateHost, _ arguments: String...) throws -> JSONValue {
        let result = try runProgram(
            Programs.tdxctl, ["conversions", "web1", "--json=short"] + arguments,
            environment: ["TDXD_SOCKET": host.socket], in: host.directory)
        return try JSONValue(result)
    }

    @Test func `conversions are counted by direction, with sizes, times and the hottest blocks`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        #expect(try host.tdxctl("conversions", "web1").output.hasPrefix("Nothing was converted"))
        for round in 0..<3 {
            _ = try host.convert("web1", gpa: 3 * Self.block, bytes: Self.block, to: .shared)
            _ = try host.convert("web1", gpa: 3 * Self.block, bytes: Self.block, to: .private)
            _ = try host.convert("web1", gpa: UInt64(8 + round) * Self.block, bytes: 8192, to: .shared)
        }
        let found = try conversions(host)
        #expect(
            found.keys == [
                "name", "backend", "emulated", "directions", "hottest", "storm", "conversions",
            ])
        #expect(found["name"].text == "web1" && found["emulated"] == .bool(true))
        let directions = found["directions"].elements
        #expect(directions.map { $0["to"].text } == ["private", "shared"])
        #expect(directions.map { $0["count"].number } == [3, 6])
        #expect(
            directions.map { $0["changed_bytes"].number } == [Double(3 * Self.block), Double(3 * Self.block + 24576)])
        #expect(directions.map { $0["failures"].number } == [0, 0])
        // Within the histograms' one per cent.
        let median = try #require(directions[0]["size_bytes"]["median"].number)
        #expect((0.99...1.01).contains(median / Double(Self.block)))
        #expect(try #require(directions[1]["microseconds"]["maximum"].number) > 0)
        let hottest = found["hottest"].elements
        #expect(hottest.count == 4)
        #expect(hottest.first?["gpa"].number == Double(3 * Self.block))
        #expect(hottest.first?["conversions"].number == 6)
        #expect(found["storm"]["conversions"].number == 10_000 && found["storm"]["storms"].number == 0)
        #expect(found["storm"]["since"] == .null)
        let all = found["conversions"].elements
        #expect(all.map { $0["number"].number } == (1...9).map { Double($0) })
        #expect(all.allSatisfy { $0["outcome"].text == "done" && $0["origin"].text == "host" })
        #expect(all.last?["gpa"].number == Double(10 * Self.block) && all.last?["done_bytes"].number == 8192)

        #expect(try conversions(host, "--last", "2")["conversions"].elements.map { $0["number"].number } == [8, 9])
        #expect(try conversions(host, "--last", "0")["conversions"].elements.isEmpty)
        let text = try host.tdxctl("conversions", "web1", "--last", "1").output
        #expect(text.contains("HOTTEST") && text.contains("(emulated)") && text.contains("0 storms"))
        #expect(try host.tdxctl("conversions", "web1", "--last", "1001").status == 2)
        #expect(try host.tdxctl("conversions", "nobody").status == 3)
        for last in [-1, 1001] as [Int64] {
            let error = refusal {
                let _: ManagerInterface.Conversions.Reply = try host.client().call(
                    ManagerInterface.Conversions.method,
                    ManagerInterface.Conversions.Parameters(name: "web1", last: last), timeout: .seconds(60))
            }
            #expect(error == .invalidField(field: "last", value: String(last), limit: "0 to 1000"))
        }
        _ = try host.stop("web1")
    }

    @Test func `a storm begins by the configured rule and is told once`() throws {
        let host = try PrivateHost(settings: "[memory]\nconversion_storm = 3\nconversion_storm_window = 1h")
        _ = try host.create("web1")
        // A window's end may fall between them: eight are too many for one of two windows in any case.
        for _ in 0..<4 {
            _ = try host.convert("web1", gpa: 0, bytes: 4096, to: .shared)
            _ = try host.convert("web1", gpa: 0, bytes: 4096, to: .private)
        }
        let storm = try conversions(host)["storm"]
        #expect(storm["conversions"].number == 3 && storm["window_ms"].number == 3_600_000)
        #expect(storm["storms"].number == 1)
        #expect(storm["since"].text?.hasSuffix("Z") == true)
        #expect(try host.tdxctl("conversions", "web1").output.contains("STORM since"))
        #expect(try host.stop("web1").complete)
        let told = host.log.split(separator: "\n").filter { $0.contains("conversions have become a storm") }
        #expect(told.count == 1, "\(host.log)")
        #expect(told.allSatisfy { $0.contains("td=web1") && $0.contains("storms=1") })
    }

    @Test func `a rule that makes no sense is refused by name`() throws {
        for (line, limit) in [
            ("conversion_storm = 0", "1 to 1000000000"), ("conversion_storm_window = 2h", "100ms to 1h"),
        ] {
            let host = try PrivateHost(settings: "[memory]\n\(line)", start: false)
            let refused = try runProgram(Programs.tdxd, host.arguments, in: host.directory)
            #expect(refused.status != 0)
            #expect(refused.errors.contains(line.split(separator: " ")[0]) && refused.errors.contains(limit))
        }
    }

    /// Whether this host lets one process make another's system calls fail.
    static let canInject: Bool = {
        let result = try? runProgram(
            "/usr/bin/strace", ["-o", "/dev/null", "-e", "inject=fallocate:error=EIO", "/bin/true"], in: "/tmp")
        return result?.status == 0
    }()

    @Test(.enabled(if: canInject, "strace is not there, or may not trace"))
    func `a conversion that fails puts itself and those before it into the journal, once`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        for number in 0..<5 as Range<UInt64> {
            _ = try host.convert("web1", gpa: number * Self.block, bytes: 4096, to: .shared)
        }
        let holder = try #require(host.holders.first)
        let error = try injectingFailures(into: holder, host) {
            refusal { _ = try host.convert("web1", gpa: 16 * Self.block, bytes: 8192, to: .shared) }
        }
        guard case .conversionIncomplete(_, 0, 8192, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        // Afterwards everything goes on.
        _ = try host.convert("web1", gpa: 16 * Self.block, bytes: 8192, to: .shared)
        let found = try conversions(host)
        #expect(found["directions"].elements[1]["failures"].number == 1)
        let failed = found["conversions"].elements.filter { $0["outcome"].text == "failed" }
        #expect(failed.map { $0["number"].number } == [6])
        #expect(failed.first?["reason"].text?.contains("EIO") == true)
        #expect(try host.stop("web1").complete)
        let lines = host.log.split(separator: "\n")
        let failures = lines.filter { $0.contains("a conversion has failed") }
        #expect(failures.count == 1)
        #expect(failures.allSatisfy { $0.contains("td=web1") && $0.contains("before=5") && $0.contains("EIO") })
        let before = lines.filter { $0.contains("a conversion before the failure") }
        #expect(before.count == 5)
        for number in 1...5 { #expect(before.contains { $0.contains(" number=\(number) ") }) }
    }

    /// Every fallocate(2) of a process fails while `body` runs.
    private func injectingFailures<Result>(
        into pid: Int32, _ host: PrivateHost, _ body: () throws -> Result
    ) throws -> Result {
        let said = host.directory + "/strace"
        let output = try openForAppending(said)
        let tracer = try ProgramStart(
            path: "/usr/bin/strace",
            arguments: [
                "-f", "-p", String(pid), "-o", "/dev/null", "-e", "trace=fallocate", "-e",
                "inject=fallocate:error=EIO",
            ],
            environment: ["PATH=/usr/bin:/bin"],
            descriptors: [(source: output.rawValue, target: 1), (source: output.rawValue, target: 2)]
        ).start()
        defer {
            // It lets go of the process and ends.
            try? tracer.send(.terminate)
            _ = try? tracer.wait()
        }
        let threads = try TextFile.list("/proc/\(pid)/task")
        let isAttached = eventually {
            threads.allSatisfy {
                ((try? TextFile.read("/proc/\(pid)/task/\($0)/status")) ?? "").contains("TracerPid:\t\(tracer.pid)\n")
            }
        }
        try #require(isAttached, "\((try? TextFile.read(said)) ?? "")")
        return try body()
    }
}
