import ControlInterface
import Glibc
import LinuxSystem
import Testing
import Varlink

/// What clients send that cannot be done: a typed error that names the field, nothing changed, the next client served.
@Suite(.serialized) struct BadInputTests {
    /// Create as it goes over the wire, so that any number can be sent.
    struct RawCreate: Codable, Sendable {
        var name = "web1"
        var memory_bytes: Int64 = 64 << 20
        var vcpus: Int64 = 1
        var firmware: String?
        var mrconfigid: String?
        var mrowner: String?
        var mrownerconfig: String?
    }

    struct RawConvert: Codable, Sendable {
        var name = "web1"
        var gpa: Int64 = 0
        var bytes: Int64 = 4096
        var to = "shared"
    }

    struct Case: Sendable, CustomTestStringConvertible {
        var field: String
        var create: RawCreate
        var testDescription: String { "\(field) of \(create)" }
    }

    static let creations: [Case] = [
        Case(field: "name", create: RawCreate(name: "")),
        Case(field: "name", create: RawCreate(name: "Web1")),
        Case(field: "name", create: RawCreate(name: "../etc")),
        Case(field: "name", create: RawCreate(name: String(repeating: "a", count: 65))),
        Case(field: "memory_bytes", create: RawCreate(memory_bytes: 0)),
        Case(field: "memory_bytes", create: RawCreate(memory_bytes: -4096)),
        Case(field: "memory_bytes", create: RawCreate(memory_bytes: 4097)),
        Case(field: "memory_bytes", create: RawCreate(memory_bytes: .max)),
        Case(field: "memory_bytes", create: RawCreate(memory_bytes: .max - 4095)),
        Case(field: "vcpus", create: RawCreate(vcpus: 0)),
        Case(field: "vcpus", create: RawCreate(vcpus: -1)),
        Case(field: "vcpus", create: RawCreate(vcpus: .max)),
        Case(field: "firmware", create: RawCreate(firmware: "relative")),
        Case(field: "mrconfigid", create: RawCreate(mrconfigid: "00")),
        Case(field: "mrowner", create: RawCreate(mrowner: String(repeating: "z", count: 96))),
        Case(field: "mrownerconfig", create: RawCreate(mrownerconfig: String(repeating: "0", count: 97))),
    ]

    @Test func `each bad field of Create is named, and nothing is changed`() throws {
        let host = try PrivateHost()
        for test in Self.creations {
            let found = refusal {
                let _: ManagerInterface.Create.Reply = try host.client().call(
                    ManagerInterface.Create.method, test.create)
            }
            guard case .invalidField(let field, _, let limit) = found else {
                Issue.record("\(test.testDescription): \(String(describing: found))")
                continue
            }
            #expect(field == test.field)
            #expect(!limit.isEmpty)
        }
        #expect(try host.list().isEmpty)
        #expect(host.leavesNothing())
    }

    @Test func `firmware that is missing, a directory, a FIFO, a device, empty or no image is rejected`() throws {
        let host = try PrivateHost()
        mkfifo(host.directory + "/fifo", 0o600)
        close(open(host.directory + "/empty", O_CREAT | O_WRONLY, 0o600))
        let garbage = open(host.directory + "/garbage", O_CREAT | O_WRONLY, 0o600)
        let bytes = [UInt8](repeating: 0x90, count: 1 << 16)
        #expect(write(garbage, bytes, bytes.count) == bytes.count)
        close(garbage)
        let huge = open(host.directory + "/huge", O_CREAT | O_WRONLY, 0o600)
        ftruncate(huge, 1 << 40)
        close(huge)
        for name in ["missing", "fifo", "empty", "garbage", "huge", "."] {
            let path = name == "." ? host.directory : "\(host.directory)/\(name)"
            let found = refusal { _ = try host.create("web1", firmware: path) }
            guard case .firmwareRejected(let said, let reason) = found else {
                Issue.record("\(name): \(String(describing: found))")
                continue
            }
            #expect(said == path)
            #expect(!reason.isEmpty)
        }
        guard case .firmwareRejected = refusal({ _ = try host.create("web1", firmware: "/dev/zero") }) else {
            Issue.record("a device was taken")
            return
        }
        #expect(try host.list().isEmpty)
        #expect(eventually { host.leavesNothing() })
        // The name and the key id are free again.
        #expect(try host.create("web1").state == .runnable)
    }

    @Test func `memory beyond the host is refused with the figures`() throws {
        let host = try PrivateHost()
        guard
            case .insufficientMemory(let needed, let available, let limit) = refusal({
                _ = try host.create("web1", mebibytes: 1 << 20)
            })
        else {
            Issue.record("1 TiB was taken")
            return
        }
        // Beside the guest's: 64 MiB that a conversion may double, and 49 bytes a page.
        #expect(needed == 1 << 40 + 64 << 20 + 49 << 28)
        #expect(available < needed)
        #expect(limit.hasPrefix("MemAvailable") || limit.contains("cgroup"), "\(limit)")
        #expect(try host.list().isEmpty)
    }

    @Test func `each bad range of Convert is named, and the map stays as it was`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let before = try host.show("web1")
        let cases: [(String, RawConvert)] = [
            ("gpa", RawConvert(gpa: 1)), ("gpa", RawConvert(gpa: -4096)), ("bytes", RawConvert(bytes: 0)),
            ("bytes", RawConvert(bytes: 100)), ("bytes", RawConvert(bytes: .max - 4095)),
            ("bytes", RawConvert(gpa: .max - 4095, bytes: 4096)), ("name", RawConvert(name: "No")),
        ]
        for (field, parameters) in cases {
            let found = refusal {
                let _: ManagerInterface.Convert.Reply = try host.client().call(
                    ManagerInterface.Convert.method, parameters)
            }
            guard case .invalidField(field, _, _) = found else {
                Issue.record("\(parameters): \(String(describing: found))")
                continue
            }
        }
        // Inside the address space, outside the TD: the holder says so.
        let outside = refusal { _ = try host.convert("web1", gpa: 1 << 40, bytes: 4096, to: .shared) }
        guard case .invalidField = outside else {
            Issue.record("\(String(describing: outside))")
            return
        }
        let after = try host.show("web1")
        #expect(after.privateBytes == before.privateBytes)
        #expect(after.sharedBytes == before.sharedBytes)
    }

    @Test func `a name that is taken stays its owner's`() throws {
        let host = try PrivateHost()
        let first = try host.create("web1")
        #expect(refusal { _ = try host.create("web1") } == .nameTaken(name: "web1"))
        #expect(try host.list().map(\.id) == [first.id])
    }

    @Test func `of many that create one name at once exactly one does`() throws {
        let host = try PrivateHost()
        let results = inParallel(6) { _ in refusal { _ = try host.create("web1") } }
        #expect(results.count { $0 == nil } == 1)
        #expect(results.count { $0 == .nameTaken(name: "web1") } == 5)
        #expect(try host.list().count == 1)
        #expect(host.holders.count == 1)
    }

    @Test func `key ids run out with their figures, and come back with a stop`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 2")
        let first = try host.create("a")
        _ = try host.create("b")
        #expect(refusal { _ = try host.create("c") } == .noKeyAvailable(capacity: 2, inUse: 2))
        #expect(try host.stop("a").complete)
        #expect(try host.create("c").keyID == first.keyID)
    }

    @Test func `unknown methods and missing parameters are told by the standard's errors`() throws {
        let host = try PrivateHost()
        guard
            case .other(let unknown, _) = refusal({
                let _: NoParameters = try host.client().call(InterfaceName.manager + ".Explode")
            })
        else {
            Issue.record("an unknown method was carried out")
            return
        }
        #expect(unknown == "org.varlink.service.MethodNotFound")
        guard
            case .other(let missing, let text) = refusal({
                let _: NoParameters = try host.client().call(ManagerInterface.Show.method)
            })
        else {
            Issue.record("a call without its parameter was carried out")
            return
        }
        #expect(missing == "org.varlink.service.InvalidParameter")
        #expect(text.contains("name"))
    }
}
