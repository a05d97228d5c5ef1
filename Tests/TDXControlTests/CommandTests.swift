import ControlInterface
import FoundationEssentials
import Glibc
import MemoryUnits
import Synchronization
import TDXStatusCodes
import Testing
import Varlink

@testable import TDXControl

private func decoded(_ text: String) throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
}

private func keys(_ value: JSONValue?) -> Set<String> {
    guard case .object(let object)? = value else { return [] }
    return Set(object.keys)
}

private let domainKeys: Set<String> = [
    "name", "id", "state", "backend", "memory_bytes", "private_bytes", "shared_bytes", "converting_bytes",
    "resident_bytes", "vcpus", "key_id", "holder_pid", "mrtd",
]

private func fail(_ error: ControlError) -> VarlinkServer.Handler {
    { call in call.fail(error.reply(on: .manager)) }
}

@Suite struct `Commands against a service` {
    @Test func `create sends what was said and shows the TD`() throws {
        let seen = Mutex<ManagerInterface.Create.Parameters?>(nil)
        let manager = try ManagerStandIn([
            "Create": { call in
                let parameters = try? call.parameters(as: ManagerInterface.Create.Parameters.self)
                seen.withLock { $0 = parameters }
                call.replyContinues(
                    ManagerInterface.Create.Reply(
                        progress: Progress(phase: "load", doneBytes: 1 << 29, totalBytes: 1 << 30)))
                call.reply(ManagerInterface.Create.Reply(domain: .sample("web1")))
            }
        ])
        let digest = String(repeating: "AB", count: 48)
        let outcome = tdxctl(
            "--socket", manager.path, "create", "web1", "--memory", "1G", "--vcpus", "2", "--firmware", "Package.swift",
            "--mrowner", digest, errorIsTerminal: true)
        #expect(outcome.status == 0)
        #expect(outcome.output.hasPrefix("Created in "))
        #expect(outcome.output.hasSuffix(render(.sample("web1"), .plain)))
        #expect(outcome.error.hasPrefix("\rcreate web1: load [####"))
        #expect(outcome.error.hasSuffix("\r\u{1b}[K"))
        let here = String(cString: getcwd(nil, 0)!)
        #expect(
            seen.withLock { $0 }
                == ManagerInterface.Create.Parameters(
                    name: NewTrustDomainName(unchecked: "web1"), memoryBytes: MemorySize(unchecked: 1 << 30),
                    vcpus: VCPUCount(unchecked: 2), firmware: FirmwarePath(unchecked: here + "/Package.swift"),
                    mrowner: Digest48(unchecked: digest.lowercased())))
    }

    @Test func `an answer that cannot be written is a failure`() {
        let lost = tdxctl(["explain", "0xc000030000000001"], losesOutput: true)
        #expect(lost.status == 1)
        #expect(lost.error.contains("could not be written"))
        // What went wrong otherwise keeps its status.
        #expect(tdxctl(["explain", "nonsense"], losesOutput: true).status == 2)
        #expect(tdxctl(["explain", "0xc000030000000001"]).status == 0)
    }

    @Test func `a quick create without a terminal says nothing on standard error`() throws {
        let manager = try ManagerStandIn([
            "Create": { call in
                call.replyContinues(
                    ManagerInterface.Create.Reply(progress: Progress(phase: "load", doneBytes: 1, totalBytes: 2)))
                call.reply(ManagerInterface.Create.Reply(domain: .sample("web1")))
            }
        ])
        let outcome = tdxctl("create", "web1", "--memory", "4K", "-j", "--socket", manager.path)
        #expect(outcome.status == 0)
        #expect(keys(try decoded(outcome.output)).isSuperset(of: domainKeys))
        // A machine so loaded that the call took a second may have told of it.
        #expect(outcome.error == "" || outcome.error == "create web1: load 50 %, 1 B of 2 B\n")
    }

    @Test func `list gives rows with the same keys whatever is unknown`() throws {
        let manager = try ManagerStandIn([
            "List": { call in
                call.reply(
                    ManagerInterface.List.Reply(domains: [
                        .sample("b"), .sample("a", state: .building, backend: .tdx, keyID: nil, mrtd: nil),
                    ]))
            }
        ])
        let outcome = tdxctl("list", "--json=short", environment: ["TDXD_SOCKET": manager.path])
        guard case .array(let rows) = try decoded(outcome.output) else {
            Issue.record("not an array: \(outcome.output)")
            return
        }
        #expect(rows.count == 2)
        for row in rows { #expect(keys(row).isSuperset(of: domainKeys)) }
        guard case .object(let first) = rows[0] else { return }
        #expect(first["name"] == .string("a"))
        #expect(first["key_id"] == .null)
        #expect(first["mrtd"] == .null)
        #expect(first["emulated"] == .bool(false))
        #expect(tdxctl("--json=off", "list", environment: ["TDXD_SOCKET": manager.path]).output.hasPrefix("NAME"))
    }

    @Test func `what stands behind the command outweighs what stands before it`() throws {
        let manager = try ManagerStandIn(["List": { $0.reply(ManagerInterface.List.Reply(domains: [])) }])
        let outcome = tdxctl(
            "--socket", "/nowhere", "--json=off", "list", "--socket", manager.path, "--json=short",
            environment: ["TDXD_SOCKET": "/nowhere/either"])
        #expect(outcome.output == "[]\n")
    }

    @Test func `stop prints a line and fails if it is not complete`() throws {
        for holds in [true, false] {
            let manager = try ManagerStandIn([
                "Stop": { $0.reply(ManagerInterface.Stop.Reply(certificate: .sample(holds: holds))) }
            ])
            let outcome = tdxctl("stop", "web1", "--socket", manager.path)
            #expect(outcome.status == (holds ? 0 : 1))
            #expect(outcome.output == summary(of: .sample(holds: holds), .plain))
            let verbose = tdxctl("stop", "web1", "--verbose", "--socket", manager.path)
            #expect(verbose.output == render(TeardownCertificate.sample(holds: holds), .plain))
            let quiet = tdxctl("stop", "web1", "-q", "--socket", manager.path)
            #expect(quiet.status == (holds ? 0 : 1) && quiet.output.isEmpty)
            let document = try decoded(tdxctl("stop", "web1", "-j", "--socket", manager.path).output)
            #expect(keys(document).isSuperset(of: ["backend", "phases", "proofs", "complete", "failure"]))
            guard case .object(let object) = document, case .array(let phases) = object["phases"],
                case .array(let proofs) = object["proofs"]
            else { return }
            #expect(phases.allSatisfy { keys($0).isSuperset(of: ["name", "milliseconds", "bytes"]) })
            #expect(proofs.allSatisfy { keys($0) == ["name", "holds", "evidence", "unseen"] })
        }
    }

    @Test func `ok gives checks with their four keys`() throws {
        let manager = try ManagerStandIn(["Check": { $0.reply(HostReport.sample) }])
        let outcome = tdxctl("ok", "-j", "--socket", manager.path)
        #expect(outcome.status == 0)
        guard case .object(let object) = try decoded(outcome.output), case .array(let checks) = object["checks"] else {
            Issue.record("no checks: \(outcome.output)")
            return
        }
        for check in checks { #expect(keys(check) == ["name", "title", "result", "evidence", "hint"]) }
        #expect(tdxctl("ok", "--socket", manager.path).output == render(HostReport.sample, .plain))
        #expect(tdxctl("ok", "--strict", "--socket", manager.path).status == 1)
    }

    @Test func `map and convert give their documents`() throws {
        let manager = try ManagerStandIn([
            "Map": { call in
                call.reply(
                    ManagerInterface.Map.Reply(
                        name: "web1", backend: .memfd, runs: [MemoryRun(gpa: 0, bytes: 4096, attribute: .shared)]))
            },
            "Convert": { call in
                guard let asked = try? call.parameters(as: ManagerInterface.Convert.Parameters.self) else { return }
                call.reply(
                    ManagerInterface.Convert.Reply(
                        name: asked.name.rawValue, backend: .memfd, gpa: asked.gpa.address.rawValue,
                        bytes: asked.bytes.size.rawValue, to: asked.to, changedBytes: asked.bytes.size.rawValue,
                        discardedBytes: 0, milliseconds: 1))
            },
        ])
        let run = #"{"attribute":"shared","bytes":4096,"gpa":0}"#
        #expect(
            tdxctl("map", "web1", "-j", "--socket", manager.path).output
                == #"{"backend":"memfd","emulated":true,"name":"web1","runs":[\#(run)]}"# + "\n")
        let outcome = tdxctl(
            "convert", "web1", "--gpa", "16M", "--size", "4M", "--to", "shared", "--socket", manager.path)
        #expect(outcome.status == 0)
        #expect(outcome.output.hasPrefix("web1: 0x0001000000–0x0001400000 (4 MiB) is shared\n"))
    }

    @Test func `the self-test tells each step as it ends and the verdict at last`() throws {
        let steps = [
            SelfTestStep(name: "write", result: .pass, evidence: "4 patterns", milliseconds: 2),
            SelfTestStep(name: "hypercall", result: .skip, evidence: "cannot exit here", milliseconds: 0),
        ]
        let manager = try ManagerStandIn([
            "SelfTest": { call in
                for step in steps { call.replyContinues(ManagerInterface.SelfTest.Reply(step: step)) }
                call.reply(ManagerInterface.SelfTest.Reply(backend: .guestMemfd, passed: true, steps: steps))
            }
        ])
        let outcome = tdxctl("selftest", "--socket", manager.path)
        #expect(outcome.status == 0)
        #expect(
            outcome.output == """
                PASS  write (2.00 ms): 4 patterns
                SKIP  hypercall (0 µs): cannot exit here
                PASSED: 1 of 2 steps [guest_memfd (emulated)]

                """)
        let document = try decoded(tdxctl("selftest", "-j", "--socket", manager.path).output)
        #expect(keys(document) == ["backend", "emulated", "passed", "steps"])
    }

    @Test func `certificate show asks for what was said, and an incomplete one is a failure`() throws {
        let seen = Mutex<String?>(nil)
        let manager = try ManagerStandIn([
            "GetCertificate": { call in
                let parameters = try? call.parameters(as: ManagerInterface.GetCertificate.Parameters.self)
                seen.withLock { $0 = parameters?.certificate.rawValue }
                call.reply(ManagerInterface.GetCertificate.Reply(certificate: .sample(holds: false)))
            },
            "ListCertificates": { call in
                call.reply(ManagerInterface.ListCertificates.Reply(certificates: [.init(.sample())]))
            },
        ])
        let outcome = tdxctl("--socket", manager.path, "certificate", "show", "web1")
        #expect(outcome.status == 1)
        #expect(outcome.output == render(TeardownCertificate.sample(holds: false), .plain))
        #expect(seen.withLock { $0 } == "web1")
        let list = tdxctl("certificate", "list", "--json=short", "--socket", manager.path)
        #expect(list.status == 0)
        guard case .array(let rows) = try decoded(list.output) else { return #expect(Bool(false), "\(list.output)") }
        #expect(
            keys(rows.first) == [
                "name", "id", "backend", "emulated", "path", "policy", "holder_died", "started_at", "milliseconds",
                "released_bytes", "complete", "failure", "pending",
            ])
    }

    @Test func `keys and verify give whole replies as JSON`() throws {
        let reclaims = Mutex<[Bool]>([])
        let manager = try ManagerStandIn([
            "GetKeys": { call in
                call.reply(
                    ManagerInterface.GetKeys.Reply(
                        backend: .tdx, capacity: 2, keys: [KeyHolding(keyID: nil, use: .reserved, name: nil, id: "a")]))
            },
            "Verify": { call in
                guard let parameters = try? call.parameters(as: ManagerInterface.Verify.Parameters.self) else { return }
                reclaims.withLock { $0.append(parameters.reclaim) }
                call.reply(
                    ManagerInterface.Verify.Reply(
                        name: parameters.name.rawValue, backend: .memfd, reclaimed: parameters.reclaim,
                        HolderInterface.Verify.Reply(checkedBytes: 4096, ranges: [], milliseconds: 1)))
            },
        ])
        #expect(
            tdxctl("keys", "--json=short", "--socket", manager.path).output
                == #"{"backend":"tdx","capacity":2,"draining":0,"emulated":false,"free":1,"in_use":0,"#
                + #""keys":[{"id":"a","key_id":null,"name":null,"use":"reserved"}],"reserved":1}"# + "\n")
        #expect(tdxctl("verify", "web1", "--socket", manager.path).status == 0)
        let freed = tdxctl("verify", "web1", "--reclaim", "--json=short", "--socket", manager.path)
        #expect(try decoded(freed.output) != .null)
        #expect(reclaims.withLock { $0 } == [false, true])
    }

    @Test func `inventory puts answers together, or gives each as a line when ranges are wanted`() throws {
        let manager = try ManagerStandIn([
            "Inventory": { call in
                let wantsRanges =
                    (try? call.parameters(as: ManagerInterface.Inventory.Parameters.self))?.ranges ?? false
                var total = InventoryTotal(backend: .tdx)
                for name in ["a", "b"] {
                    let domain = InventoryDomain(
                        name: name, id: name, state: .runnable, backend: .tdx, source: .map, reason: nil,
                        memoryBytes: 8192, privateBytes: 4096, convertingBytes: 0, sequence: wantsRanges ? 1 : nil,
                        ranges: wantsRanges ? 1 : nil)
                    total.add(domain, wantsRanges: wantsRanges)
                    let run = InventoryRanges(
                        id: name, runs: [MemoryRun(gpa: 0, bytes: 4096, attribute: .private)])
                    call.replyContinues(
                        ManagerInterface.Inventory.Reply(domains: [domain], ranges: wantsRanges ? [run] : []))
                }
                call.reply(ManagerInterface.Inventory.Reply(total: total))
            }
        ])
        let whole = tdxctl("inventory", "--json=short", "--socket", manager.path)
        #expect(whole.status == 0)
        let document = try decoded(whole.output)
        #expect(keys(document) == ["domains", "ranges", "total"])
        guard case .object(let object) = document, case .array(let domains)? = object["domains"] else {
            return #expect(Bool(false), "\(whole.output)")
        }
        #expect(domains.count == 2)
        #expect(
            keys(domains.first) == [
                "name", "id", "state", "backend", "emulated", "source", "reason", "memory_bytes", "private_bytes",
                "converting_bytes", "sequence", "ranges",
            ])
        let parts = tdxctl("inventory", "--ranges", "--json=short", "--socket", manager.path)
        let lines = parts.output.split(separator: "\n")
        #expect(parts.status == 0 && lines.count == 3)
        for line in lines { #expect(keys(try decoded(String(line))) == ["domains", "ranges", "total"]) }
        #expect(
            tdxctl("inventory", "--socket", manager.path).output.hasSuffix(
                "2 TDs: 8 KiB private, 0 B converting [tdx]\n"))
    }

    @Test(
        arguments: [
            (.noSuchDomain(name: "x"), 3), (.noSuchCertificate(certificate: "x"), 3),
            (.notPermitted(needed: "admin", reason: "uid 7"), 4),
            (.insufficientMemory(neededBytes: 2, availableBytes: 1, limit: "MemAvailable"), 5),
            (.noKeyAvailable(capacity: 1, inUse: 1), 5), (.tryAgain(reason: "draining"), 75),
            (.invalidField(field: "vcpus", value: "0", limit: "1 to 64"), 2), (.nameTaken(name: "x"), 1),
            (.kernelRefused(operation: "KVM_RUN", errno: 5, errnoName: "EIO", tdxStatus: "0x1", detail: ""), 1),
            (.holderFailed(name: "x", reason: "died"), 1), (.wrongState(name: "x", state: "s", operation: "o"), 1),
            (.other(name: "io.tdxd.Manager.New", message: "m"), 1),
        ] as [(ControlError, Int32)])
    func `an error has its exit status and says what to do`(_ error: ControlError, _ status: Int32) throws {
        let manager = try ManagerStandIn(["Show": fail(error)])
        let outcome = tdxctl("show", "x", "--socket", manager.path)
        #expect(outcome.status == status)
        #expect(outcome.output == "")
        #expect(outcome.error.hasPrefix("tdxctl: \(error)\n"))
        let machine = tdxctl("show", "x", "--json=short", "--socket", manager.path)
        #expect(keys(try decoded(machine.error)).isSuperset(of: ["error", "message"]))
    }

    @Test func `nobody at the socket is told as such`() {
        let outcome = tdxctl("list", "--socket", "/nonexistent/socket")
        #expect(outcome.status == 69)
        #expect(outcome.error.hasPrefix("tdxctl: tdxd does not answer at /nonexistent/socket (ENOENT)\nhint: start it"))
        let version = tdxctl("version", "-j", "--socket", "/nonexistent/socket")
        #expect(version.status == 0)
        #expect(version.output == #"{"tdxctl":"\#(ControlInterfaceVersion.text)","tdxd":null}"# + "\n")
    }

    @Test func `a service that hangs up is unavailable`() throws {
        let manager = try ManagerStandIn(["List": { _ in }])
        #expect(tdxctl("list", "--socket", manager.path).status == 69)
    }
}

@Suite struct `Command lines` {
    @Test(arguments: [
        ["frobnicate"], ["create"], ["create", "web1"], ["create", "Web1", "--memory", "1G"],
        ["create", "", "--memory", "1G"], ["create", String(repeating: "a", count: 65), "--memory", "1G"],
        ["create", "a/b", "--memory", "1G"], ["create", "web1", "--memory", "0"], ["create", "web1", "--memory", "1"],
        ["create", "web1", "--memory", "-4096"], ["create", "web1", "--memory", "16777216T"],
        ["create", "web1", "--memory", "9223372036854775808"], ["create", "web1", "--memory", "1G", "--vcpus", "0"],
        ["create", "web1", "--memory", "1G", "--mrowner", "ab"],
        ["create", "web1", "--memory", "1G", "--firmware", ""],
        ["convert", "a", "--gpa", "1", "--size", "4K", "--to", "shared"],
        ["convert", "a", "--gpa", "0", "--size", "4K", "--to", "elsewhere"],
        ["explain", "xyz"], ["explain", "0x10000000000000000"], ["list", "--json=yaml"], ["list", "--surplus"],
    ])
    func `what is not acceptable ends with status 2 and a word why`(_ arguments: [String]) {
        let outcome = run(arguments)
        #expect(outcome.status == 2)
        #expect(outcome.output == "")
        #expect(outcome.error.hasPrefix("Error: "))
    }

    @Test(arguments: [["--help"], ["create", "--help"], ["help", "stop"], ["--version"]])
    func `help is no error`(_ arguments: [String]) {
        let outcome = run(arguments)
        #expect(outcome.status == 0)
        #expect(outcome.output.count > 4)
        #expect(outcome.error == "")
    }

    @Test func `explain needs no daemon`() throws {
        let outcome = run(["explain", "c0000300_00000001", "--json=short"])
        #expect(outcome.status == 0)
        guard case .object(let object) = try decoded(outcome.output) else { return }
        #expect(object["name"] == .string("PAGE_METADATA_INCORRECT"))
        #expect(object["operand"] == .string("RCX"))
        #expect(object["recoverable"] == .bool(false))
        #expect(
            keys(.object(object))
                == ["status", "class", "name", "severity", "recoverable", "operand", "cause", "next_step"])
    }

    @Test func `the models of page transitions say which order is safe`() throws {
        let outcome = run(["model", "transition", "--pages", "1", "--json=short"])
        #expect(outcome.status == 0)
        guard case .object(let object) = try decoded(outcome.output), case .array(let rows)? = object["protocols"]
        else {
            Issue.record("\(outcome.output)")
            return
        }
        var safe: [JSONValue: JSONValue] = [:]
        for case .object(let row) in rows {
            #expect(
                keys(.object(row)) == [
                    "name", "summary", "safe", "states", "tlb_flushes", "page_table_touches", "counterexample",
                ])
            safe[row["name"]!] = row["safe"]
            #expect((row["counterexample"] == .null) == (row["safe"] == .bool(true)))
        }
        #expect(
            safe == [
                .string("present-clearing"): .bool(true), .string("present-clearing-merged"): .bool(true),
                .string("always-present"): .bool(false), .string("present-clearing-plain-walk"): .bool(false),
            ])
        #expect(run(["model", "transition", "--protocol", "nothing"]).status == 2)
        #expect(run(["model", "transition", "--pages", "4"]).status == 2)
    }

    @Test func `a status may be written as logs write it`() {
        for text in [
            "0xC000030000000001", "c000030000000001", "0xc000_0300_0000_0001", "13835061353817047041",
            "-4611682719892504575",
        ] {
            #expect(parseStatus(text)?.rawValue == 0xc000_0300_0000_0001, "\(text)")
        }
        // Names, and numbers that could be either: 16 digits are hexadecimal, a code that has a name is decimal.
        for (text, value) in [
            ("OPERAND_BUSY", 0x8000_0200_0000_0000), ("tdx_operand_busy", 0x8000_0200_0000_0000), ("SUCCESS", 0),
            ("77", 77), ("0x77", 0x77), ("8000020000000092", 0x8000_0200_0000_0092),
            ("9223374235878031360", 0x8000_0200_0000_0000), ("8886287335424", 0x0000_0815_0000_0000),
            ("000081500000000", 0x0000_0815_0000_0000),
        ] as [(String, UInt64)] {
            #expect(parseStatus(text)?.rawValue == value, "\(text)")
        }
        for text in ["", "0x", "0x12345678123456789", "OPERAND", "+1", "99999999999999999999"] {
            #expect(parseStatus(text) == nil, "\(text)")
        }
    }

    private func run(_ arguments: [String]) -> Outcome {
        tdxctl(arguments, environment: ["TDXD_SOCKET": "/nonexistent/socket"])
    }
}
