import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Testing
import Varlink

/// Firmware that the client opens: tdxd gets the descriptor.
@Suite(.serialized) struct FirmwareDescriptorTests {
    private static let label = "/images/of/mine.fd"

    private func create(
        _ host: PrivateHost, _ descriptors: [Int32], firmware: String? = label
    ) throws -> TrustDomain {
        var domain: TrustDomain?
        try host.client().callMore(
            ManagerInterface.Create.method,
            ManagerInterface.Create.Parameters(name: "web1", memoryBytes: 256 << 20, vcpus: 1, firmware: firmware),
            as: ManagerInterface.Create.Reply.self, descriptors: descriptors, timeout: .seconds(300)
        ) { reply, _ in domain = reply.domain ?? domain }
        return try #require(domain)
    }

    @Test(.enabled(if: Programs.hasFirmware, "no \(Programs.firmware): install the package ovmf"))
    func `an image that no path leads to is loaded and measured like any other`() throws {
        let host = try PrivateHost()
        let copy = host.directory + "/mine.fd"
        try DurableFile.write(
            try OwnedDescriptor.open(path: Programs.firmware).read(count: 64 << 20, at: .zero), name: "mine.fd",
            in: host.directory)
        let image = try OwnedDescriptor.open(path: copy)
        unlink(copy)
        let made = try create(host, [image.rawValue])
        let usual = try host.create("web2", mebibytes: 256, firmware: Programs.firmware)
        #expect(made.mrtd != nil && made.mrtd == usual.mrtd && made.firmware == Self.label)

        // tdxctl opens what it is given.
        let third = try host.tdxctl(
            "create", "web3", "--memory", "256M", "--firmware", Programs.firmware, "--json=short")
        #expect(try JSONValue(third)["mrtd"].text == usual.mrtd)
    }

    @Test func `a descriptor of something else is refused, and nothing is made`() throws {
        let host = try PrivateHost()
        let path = host.directory + "/image"
        try DurableFile.write([1], name: "image", in: host.directory)
        mkfifo(host.directory + "/fifo", 0o600)
        try DurableFile.write([], name: "empty", in: host.directory)
        let cases: [(OwnedDescriptor.Access, String, String)] = [
            (.place, path, "not open for reading"), (.writeOnly, path, "not open for reading"),
            (.readWrite, host.directory + "/fifo", "a FIFO"), (.readOnly, host.directory, "a directory"),
            (.readWrite, "/dev/null", "a device"), (.readOnly, host.directory + "/empty", "it is empty"),
        ]
        for (access, path, expected) in cases {
            let file = try OwnedDescriptor.open(path: path, access, nonBlocking: true)
            guard case .firmwareRejected(Self.label, let reason) = refusal({ _ = try create(host, [file.rawValue]) })
            else {
                Issue.record("\(path) for \(access) was not rejected")
                continue
            }
            #expect(reason.contains(expected), "\(path) for \(access)")
        }
        let file = try OwnedDescriptor.open(path: path)
        for (firmware, descriptors) in [(Self.label, [file.rawValue, file.rawValue]), (nil, [file.rawValue])] {
            guard
                case .invalidField("firmware", _, _) = refusal({
                    _ = try create(host, descriptors, firmware: firmware)
                })
            else {
                Issue.record("\(descriptors.count) descriptors were taken")
                continue
            }
        }
        #expect(try host.list().isEmpty && host.leavesNothing())
    }

    @Test func `where firmware may lie is asked of descriptors, too`() throws {
        let host = try PrivateHost(settings: "[service]\nfirmware_directories = /usr/share")
        try DurableFile.write([1], name: "image", in: host.directory)
        let file = try OwnedDescriptor.open(path: host.directory + "/image")
        guard case .firmwareRejected(_, let reason) = refusal({ _ = try create(host, [file.rawValue]) }) else {
            Issue.record("it was taken")
            return
        }
        #expect(reason.contains("it lies in none of firmware_directories"))
    }
}
