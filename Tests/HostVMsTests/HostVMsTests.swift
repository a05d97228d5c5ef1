import Foundation
import LinuxSystem
import Testing

@testable import HostVMs

@Suite struct HostVMsTests {
    @Test(.enabled(if: makesGuestMemory && geteuid() == 0, "needs root and a /dev/kvm that makes guest_memfds"))
    func `Root sees another user's VM with its name, its guest_memfd and what of it is resident`() throws {
        let size: UInt64 = 64 << 20
        let resident: UInt64 = 3 << 20
        let vmm = try #require(
            try StandInVMM([
                "--user", "65534", "--guest-memory", "\(size)", "--resident", "\(resident)", "-name", "guest=web1,x=y",
            ]))
        defer { vmm.end() }
        let look = try HostVMs.look(countingResident: true)
        let process = try #require(look.processes.first { $0.pid == vmm.pid })
        #expect(process.vmDescriptors == 1)
        #expect(process.vcpuDescriptors == 0)
        #expect(process.guestBytes == size)
        #expect(process.residentBytes == resident)
        #expect(process.ownerUID == 65534)
        #expect(process.name == "web1")
        #expect(process.program.hasPrefix("python3"))
        #expect(process.isConfidential)
        vmm.end()
        #expect(try !HostVMs.look().processes.contains { $0.pid == vmm.pid })
    }

    @Test(.enabled(if: makesGuestMemory, "needs a /dev/kvm that makes guest_memfds"))
    func `A VM without guest_memfds is seen and is not confidential`() throws {
        let vmm = try #require(try StandInVMM([]))
        defer { vmm.end() }
        let process = try #require(try HostVMs.look().processes.first { $0.pid == vmm.pid })
        #expect(process.vmDescriptors == 1)
        #expect(!process.isConfidential)
        #expect(process.guestBytes == 0)
    }

    @Test func `What may not be looked into is counted, and the look is not complete`() throws {
        let proc = try FakeProc()
        defer { proc.remove() }
        try proc.add(10, program: "qemu", links: ["9": "anon_inode:kvm-vm", "10": "anon_inode:kvm-vcpu:0"])
        try proc.add(11, program: "bash", links: ["0": "/dev/null", "3": "/srv/kvm-vm"])
        // A directory that is a file cannot be listed, as one of another user cannot.
        try proc.add(12, program: "hidden", links: nil)
        try proc.add(13, program: "kworker", links: nil, flags: 0x20_0000)
        try proc.add(14, program: "ended", links: nil, state: "Z")
        let look = try HostVMs.look(procDirectory: proc.path)
        #expect(look.processes.map(\.pid) == [10])
        #expect(look.processes.first?.vcpuDescriptors == 1)
        #expect(look.processesSeen == 2)
        #expect(look.unseen == [.init(pid: 12, program: "hidden")])
        #expect(!look.isComplete)
    }

    @Test func `A guest_memfd that cannot be looked at makes its size and the look unknown`() throws {
        let proc = try FakeProc()
        defer { proc.remove() }
        try proc.add(10, program: "qemu", links: ["7": "anon_inode:[kvm-gmem]"])
        let process = try #require(try HostVMs.look(procDirectory: proc.path).processes.first)
        #expect(process.unreadable == 1)
        #expect(process.isConfidential)
        #expect(process.residentBytes == nil)
        #expect(try !HostVMs.look(procDirectory: proc.path).isComplete)
    }

    @Test(arguments: [
        ("anon_inode:kvm-vm", KVMLink.vm), ("anon_inode:kvm-vcpu:12", .vcpu), ("anon_inode:[kvm-gmem]", .guestMemory),
        ("/tmp/anon_inode:kvm-vm", nil), ("anon_inode:kvm-vm-stats:1", nil), ("anon_inode:kvm-device", nil), ("", nil),
    ])
    func `Links of KVM's files are told from others`(target: String, kind: KVMLink?) {
        #expect(KVMLink(target) == kind)
    }

    @Test func `A process that holds known files alone is left out, one with another file is not`() {
        let file = { VMProcess.GuestFile(identity: .init(device: 1, inode: $0), bytes: 4096) }
        let will = VMProcess(pid: 1, startTicks: 0, program: "will", files: [file(1)])
        let other = VMProcess(pid: 2, startTicks: 0, program: "vmm", vmDescriptors: 1, files: [file(1), file(2)])
        let plain = VMProcess(pid: 3, startTicks: 0, program: "vmm", vmDescriptors: 1)
        let look = HostVMs(processes: [will, other, plain]).withoutHolders(ofFilesAmong: [file(1).identity])
        #expect(look.processes.map(\.pid) == [2, 3])
    }

    @Test func `Sizes whose sum does not fit give the largest number`() {
        let file = { VMProcess.GuestFile(identity: .init(device: 1, inode: $0), bytes: .max, residentBytes: .max) }
        let process = VMProcess(pid: 1, startTicks: 0, program: "x", files: [file(1), file(2)])
        #expect(process.guestBytes == .max)
        #expect(process.residentBytes == .max)
    }
}

/// A directory in the shape of /proc.
struct FakeProc {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "proc-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path + "/self", withIntermediateDirectories: true)
        try "30 1 0:5 / /proc rw - proc proc rw\n".write(
            toFile: path + "/self/mountinfo", atomically: false, encoding: .utf8)
    }

    /// - Parameter links: of its fd directory; nil for one that cannot be listed.
    func add(_ pid: Int32, program: String, links: [String: String]?, flags: UInt64 = 0, state: String = "S") throws {
        let directory = "\(path)/\(pid)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let zeros = Array(repeating: "0", count: 20).joined(separator: " ")
        try "\(pid) (\(program)) \(state) 1 1 1 0 -1 \(flags) \(zeros)\n".write(
            toFile: directory + "/stat", atomically: false, encoding: .utf8)
        guard let links else {
            try "".write(toFile: directory + "/fd", atomically: false, encoding: .utf8)
            return
        }
        try FileManager.default.createDirectory(atPath: directory + "/fd", withIntermediateDirectories: true)
        for (name, target) in links {
            try FileManager.default.createSymbolicLink(atPath: "\(directory)/fd/\(name)", withDestinationPath: target)
        }
    }

    func remove() { try? FileManager.default.removeItem(atPath: path) }
}
