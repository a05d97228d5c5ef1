import ControlInterface
import FoundationEssentials
import LinuxSystem
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct OrderTests {
    /// Decodes what a client sends.
    static func decoded<Value: Decodable>(_ type: Value.Type, _ parameters: some Encodable) throws -> Value {
        do { return try JSONDecoder().decode(type, from: try JSONEncoder().encode(parameters)) } catch let error
            as Refusal
        {
            throw ControlError(error)
        }
    }

    private struct RawCreate: Encodable {
        var name: String
        var memory_bytes: Int64
        var vcpus: Int64
        var firmware: String?
        var mrconfigid: String?
        var mrowner: String?
        var mrownerconfig: String?
        var numa: RawPolicy?
    }

    private struct RawPolicy: Encodable {
        var policy: String
        var nodes: [Int]
    }

    private struct RawConvert: Encodable {
        var name = "web1"
        var gpa: Int64
        var bytes: Int64
        var to = "shared"
    }

    static func create(
        name: String = "web1", memory: Int64 = 1 << 30, vcpus: Int64 = 2, firmware: String? = nil,
        mrConfigID: String? = nil, mrOwner: String? = nil, mrOwnerConfig: String? = nil, nodes: [Int]? = nil
    ) throws -> CreateRequest {
        try decoded(
            CreateRequest.self,
            RawCreate(
                name: name, memory_bytes: memory, vcpus: vcpus, firmware: firmware, mrconfigid: mrConfigID,
                mrowner: mrOwner, mrownerconfig: mrOwnerConfig,
                numa: nodes.map { RawPolicy(policy: "interleave", nodes: $0) }))
    }

    static func field(_ body: () throws -> Void) -> String? {
        guard case .invalidField(let field, _, _) = refusal(body) else { return nil }
        return field
    }

    @Test(arguments: ["-h", "--all", "--json", "-", ".", "..", ".hidden", "_web"])
    func `a new TD's name begins with a letter or digit, so that it is no option`(name: String) throws {
        guard case .invalidField("name", _, let limit) = refusal({ _ = try Self.create(name: name) }) else {
            Issue.record("“\(name)” was taken, or refused otherwise")
            return
        }
        #expect(limit.contains("begin with a letter or digit"))
    }

    @Test(arguments: ["a", "web1", "a.b_c-d", "0", "-", "..", String(repeating: "x", count: 64)])
    func `a name of 1 to 64 allowed characters is taken`(name: String) throws {
        #expect(try Self.decoded(TrustDomainName.self, name).rawValue == name)
    }

    @Test(arguments: [
        "", "Web1", "a b", "a/b", "ä", "a\0b", "a\nb", String(repeating: "x", count: 65), "web1 ", "%2e", "a:b",
    ])
    func `any other name is refused with the field and its limit`(name: String) {
        let found = refusal {
            _ = try Self.decoded(ManagerInterface.Show.Parameters.self, ["name": name])
        }
        #expect(refusal { _ = try Self.create(name: name) } == found)
        guard case .invalidField(let field, _, let limit) = found else {
            Issue.record("\(name.debugDescription) was not refused")
            return
        }
        #expect(field == "name")
        #expect(limit == TrustDomainName.limit)
    }

    @Test func `a NUMA policy has nodes, each once, and those that this host has`() throws {
        let policy = try #require(try Self.create(nodes: [3, 0]).numa)
        #expect(policy.nodes.rawValue == [0, 3])
        for (nodes, value) in [([], "[]"), ([0, 1, 0], "0"), ([-1], "-1"), ([64], "64")] as [([Int], String)] {
            let found = refusal { _ = try Self.create(nodes: nodes) }
            #expect(
                found
                    == .invalidField(
                        field: "numa.nodes", value: value, limit: "one or more different numbers from 0 to 63"))
        }
        try HostNodes.check(policy, usable: [.node(0), .node(1), .node(3)])
        #expect(
            refusal { try HostNodes.check(policy, usable: [.node(0), .node(1)]) }
                == .invalidField(
                    field: "numa.nodes", value: "3", limit: "a node of this host with memory that tdxd may use: 0-1"))
    }

    @Test func `what is quoted from a client is short and has no control characters`() {
        let quoted = Refusal.quoting("\u{1B}[31m" + String(repeating: "y", count: 500))
        #expect(quoted.unicodeScalars.count == 65)
        #expect(!quoted.unicodeScalars.contains("\u{1B}"))
    }

    @Test(arguments: [
        (Int64(0), "greater than 0"), (Int64(-4096), "greater than 0"), (Int64(4097), "a multiple of 4096"),
        ((Int64(1) << 51) + 4096, "at most"), (Int64.max - 4095, "at most"),
    ])
    func `memory that is zero, negative, unaligned or beyond the address space is refused`(
        bytes: Int64, limit: String
    ) {
        guard case .invalidField(let field, let value, let said) = refusal({ _ = try Self.create(memory: bytes) })
        else {
            Issue.record("\(bytes) was not refused")
            return
        }
        #expect(field == "memory_bytes")
        #expect(value == String(bytes))
        #expect(said.hasPrefix(limit))
    }

    @Test(arguments: [Int64(0), -1, 1025, .max, .min])
    func `a number of vCPUs out of range is refused`(vcpus: Int64) {
        #expect(Self.field { _ = try Self.create(vcpus: vcpus) } == "vcpus")
    }

    @Test func `the largest and the smallest TD are taken`() throws {
        #expect(try Self.create(memory: 4096, vcpus: 1).memoryBytes.bytes == ByteCount(4096))
        #expect(try Self.create(memory: 1 << 51, vcpus: 1024).vcpus.count == 1024)
    }

    @Test(arguments: ["relative", "", "a/b", "/" + String(repeating: "p", count: 4095), "/a\0b"])
    func `a firmware path that is not absolute, too long or has a NUL is refused`(path: String) {
        #expect(Self.field { _ = try Self.create(firmware: path) } == "firmware")
    }

    @Test(arguments: ["mrconfigid", "mrowner", "mrownerconfig"])
    func `a measurement field takes exactly 96 hexadecimal digits`(field: String) throws {
        func order(_ digits: String) throws -> CreateRequest {
            try Self.create(
                mrConfigID: field == "mrconfigid" ? digits : nil, mrOwner: field == "mrowner" ? digits : nil,
                mrOwnerConfig: field == "mrownerconfig" ? digits : nil)
        }
        let good = String(repeating: "Ab", count: 48)
        let taken = try order(good)
        #expect([taken.mrconfigid, taken.mrowner, taken.mrownerconfig].contains(Digest48(rawValue: good.lowercased())))
        for bad in [
            "", String(good.dropLast()), good + "0", String(repeating: "g", count: 96), "0x" + good.dropLast(2),
        ] {
            #expect(Self.field { _ = try order(bad) } == field)
        }
    }

    @Test(arguments: [
        (Int64(-4096), Int64(4096), "gpa"), (Int64(1), Int64(4096), "gpa"), (Int64(0), Int64(0), "bytes"),
        (Int64(0), Int64(-4096), "bytes"), (Int64(0), Int64(5000), "bytes"), (Int64(1) << 51, Int64(4096), "bytes"),
        (Int64(4096), Int64.max - 4095, "bytes"), (Int64.max - 4095, Int64.max - 4095, "bytes"),
    ])
    func `a range to convert that is unaligned, empty or out of the address space is refused`(
        gpa: Int64, bytes: Int64, field: String
    ) {
        #expect(Self.field { _ = try Self.range(gpa, bytes) } == field)
    }

    private static func range(_ gpa: Int64, _ bytes: Int64) throws -> GuestPhysicalRange {
        try decoded(ManagerInterface.Convert.Parameters.self, RawConvert(gpa: gpa, bytes: bytes)).range()
    }

    @Test func `a range up to the end of the address space is taken`() throws {
        #expect(try Self.range((1 << 51) - 4096, 4096).end == GuestPhysicalAddress(1 << 51))
    }
}
