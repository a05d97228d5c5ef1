import ConfidentialMemory
import ControlInterface
import FirmwareImage
import Glibc
import LinuxSystem
import MemoryUnits
import Testing

@testable import TDHolder

private let ovmfPath = "/usr/share/ovmf/OVMF.fd"
private let hasOVMF = access(ovmfPath, R_OK) == 0

/// A directory that goes with the test.
private final class Scratch {
    let path: String

    init() throws {
        path = try RunningHolder.makeDirectory()
    }

    deinit { RunningHolder.remove(path) }

    /// A file of that many bytes; what is not written is a hole.
    func file(_ name: String, size: Int) throws -> String {
        let file = "\(path)/\(name)"
        let number = open(file, O_CREAT | O_RDWR, 0o600)
        try #require(number >= 0)
        try #require(ftruncate(number, size) == 0)
        close(number)
        return file
    }
}

@Suite struct `Firmware that comes as a descriptor` {
    @Test(.enabled(if: hasOVMF, "no \(ovmfPath)"), arguments: testedBackends)
    func `OVMF is loaded and measured as its load plan says`(_ backend: Backend) throws {
        let holder = try RunningHolder(["--backend", backend.rawValue])
        let client = try holder.connect()
        let image = try OwnedDescriptor.open(path: ovmfPath)
        var loaded: UInt64 = 0
        let built = try client.build(
            RunningHolder.order(memory: 256 << 20, firmware: ovmfPath), image: image.rawValue
        ) { if $0.phase == "load" { loaded = max(loaded, $0.doneBytes) } }

        let parsed = try TDVFImage(try TextFile.readBytes(ovmfPath))
        let layout = try GuestMemoryLayout(memory: .mebibytes(256), firmware: parsed.size)
        let plan = try LoadPlan(image: parsed, layout: layout)
        #expect(built.mrtd == hexadecimal(LaunchMeasurement.replaying(plan).bytes))
        #expect(built.firmware == ovmfPath)
        if canCountPages {
            #expect(try #require(built.residentPrivateBytes) >= plan.addedSize.rawValue)
        } else {
            #expect(built.residentPrivateBytes == nil, "what cannot be counted is not said to be nothing")
        }
        #expect(loaded == plan.addedSize.rawValue, "the end of a phase is told, however fast it was")

        let reply = try client.stop()
        #expect(reply.failure == nil)
        if canCountPages { #expect(reply.releasedBytes ?? 0 >= plan.addedSize.rawValue) }
        for proof in reply.proofs ?? [] where proof.name != "holder_residency" || canCountPages {
            #expect(proof.holds, "\(proof.name): \(proof.evidence)")
        }
        #expect(try holder.waitForExit() == .exited(status: 0))
    }

    @Test func `A file that is no image is refused and the holder can be stopped`() throws {
        let scratch = try Scratch()
        let path = try scratch.file("noise.fd", size: 1 << 20)
        let holder = try RunningHolder(["--backend", "memfd"])
        let client = try holder.connect()
        let file = try OwnedDescriptor.open(path: path)
        let error = controlError { try client.build(RunningHolder.order(firmware: path), image: file.rawValue) }
        guard case .firmwareRejected(path, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try client.describe().state == .failed)
        #expect(try client.stop().failure == nil)
        #expect(try holder.waitForExit() == .exited(status: 0))
    }

    @Test func `A descriptor must come exactly where firmware is named`() throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        let client = try holder.connect()
        let file = try OwnedDescriptor.open(path: "/dev/null")
        for (firmware, image) in [("/x", nil), (nil, file.rawValue)] as [(String?, Int32?)] {
            let error = controlError { try client.build(RunningHolder.order(firmware: firmware), image: image) }
            guard case .invalidField(field: "firmware", _, _) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
        #expect(try client.describe().state == .empty)
    }

    @Test func `A FIFO, a directory and a device are refused without being read`() throws {
        let scratch = try Scratch()
        let fifo = scratch.path + "/fifo"
        #expect(mkfifo(fifo, 0o600) == 0)
        for (path, access, kind) in [
            (fifo, .readWrite, "a FIFO"), (scratch.path, .readOnly, "a directory"),
            ("/dev/zero", .readOnly, "a device"),
        ] as [(String, OwnedDescriptor.Access, String)] {
            let file = try OwnedDescriptor.open(path: path, access, nonBlocking: true)
            let error = #expect(throws: FirmwareRefused.self) { try FirmwareDescriptor.read(file, path: path) }
            #expect(error?.reason.contains(kind) == true, "\(path): \(error?.reason ?? "")")
        }
    }

    @Test(arguments: [0, (64 << 20) + 1])
    func `An empty and an oversized file are refused`(_ size: Int) throws {
        let scratch = try Scratch()
        let path = try scratch.file("odd.fd", size: size)
        let file = try OwnedDescriptor.open(path: path)
        let error = #expect(throws: FirmwareRefused.self) { try FirmwareDescriptor.read(file, path: path) }
        #expect(error?.reason.contains("\(size) bytes") == true)
    }

    @Test func `A file that cannot be read is refused with the reason`() throws {
        let scratch = try Scratch()
        let path = try scratch.file("place.fd", size: 4096)
        let file = try OwnedDescriptor.open(path: path, .place)
        let error = #expect(throws: FirmwareRefused.self) { try FirmwareDescriptor.read(file, path: path) }
        #expect(error?.reason.contains("EBADF") == true)
    }
}
