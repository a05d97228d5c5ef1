import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing
import Varlink

@testable import TDHolder

@Suite struct `A recording of the emulated module` {
    /// A TD with measured memory, a conversion and its end, recorded by a real holder.
    private func record(to path: String) throws {
        let holder = try RunningHolder(["--backend", "memfd", "--trace", path])
        let client = try holder.connect()
        try client.build(RunningHolder.order())
        try client.convert(0x100_0000, 2 << 20, to: .shared)
        _ = try client.stop()
        #expect(try holder.waitForExit() == .exited(status: 0))
    }

    @Test func `is replayed with the same statuses, and a changed one is found`() throws {
        let directory = try RunningHolder.makeDirectory()
        defer { RunningHolder.remove(directory) }
        let path = directory + "/trace.jsonl"
        try record(to: path)

        let report = try TraceReport(path: path)
        #expect(report.agrees, "\(report.text)")
        #expect(report.calls > 30)

        // Somebody claims that the key was freed with another status.
        let text = try TextFile.read(path)
        let lines = text.split(separator: "\n")
        let freed = try #require(lines.firstIndex { $0.contains("MNG.KEY.FREEID") })
        #expect(lines[freed].contains(#""out":{"#))
        let forged = lines[freed].replacing(#""out":{"#, with: #""out":{"r15":"0x1","#)
        let other = directory + "/forged.jsonl"
        let file = try OwnedDescriptor.create(path: other)
        let forgedText = (lines[..<freed] + [Substring(forged)] + lines[(freed + 1)...]).joined(separator: "\n") + "\n"
        try Array(forgedText.utf8).withUnsafeBytes { try file.write($0, at: .zero) }
        let found = try TraceReport(path: other)
        #expect(!found.agrees && found.disagreements.count == 1)
        #expect(found.disagreements.first?.line == freed + 1 && found.disagreements.first?.what == "r15")
    }

    @Test func `is never written over something that is there`() throws {
        let directory = try RunningHolder.makeDirectory()
        defer { RunningHolder.remove(directory) }
        let path = directory + "/trace.jsonl"
        _ = try OwnedDescriptor.create(path: path)
        let holder = try RunningHolder(["--backend", "memfd", "--trace", path])
        #expect(try holder.waitForExit() != .exited(status: 0))
        #expect(throws: (any Error).self) { try TraceReport(path: path) }
    }
}
