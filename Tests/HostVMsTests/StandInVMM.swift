import Foundation
import Testing

/// A process with a VM, of `stand-in-vmm.py`.
final class StandInVMM {
    private let process = Process()
    private let input = Pipe()
    var pid: Int32 { process.processIdentifier }

    /// Nil where this machine's KVM makes no such VM.
    init?(_ arguments: [String]) throws {
        let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "stand-in-vmm.py").path
        let output = Pipe()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", script] + arguments
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        guard line.hasPrefix("ready") else {
            process.waitUntilExit()
            return nil
        }
    }

    func end() {
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    deinit { end() }
}

/// Whether this machine's KVM makes guest_memfds.
let makesGuestMemory: Bool = {
    guard let vmm = try? StandInVMM(["--guest-memory", "4096"]) else { return false }
    vmm.end()
    return true
}()
