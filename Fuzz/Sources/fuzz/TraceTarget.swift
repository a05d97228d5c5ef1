internal import MemoryUnits

internal import struct FoundationEssentials.Data
internal import class FoundationEssentials.JSONDecoder

@testable internal import TDXModule

extension FuzzTarget {
    /// A recording. Whatever registers it holds, the module answers; a refusal names a line of it.
    ///
    /// The work is bounded: 64 KiB, 256 lines, and a platform of at most 8 GiB and 64 processors.
    static let trace = FuzzTarget(name: "trace") { bytes in
        guard bytes.count <= 1 << 16 else { return }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count <= 256 else { return }
        if let first = lines.first(where: { !$0.isEmpty }),
            let header = try? JSONDecoder().decode(TraceHeader.self, from: Data(first.utf8)),
            let platform = header.platform
        {
            guard platform.convertibleMemory.allSatisfy({ $0.end.rawValue <= 8 << 30 }),
                platform.packages.multipliedReportingOverflow(by: platform.logicalProcessorsPerPackage)
                    .partialValue <= 64
            else { return }
        }
        do {
            let replay = try TraceReplay(lines: lines)
            hold(replay.calls < lines.count, "\(replay.calls) calls of \(lines.count) lines")
            for disagreement in replay.disagreements {
                hold((2...lines.count).contains(disagreement.line), "\(disagreement) is in no line")
            }
        } catch TraceFormatError.badLine(let line, _) {
            hold((2...lines.count).contains(line), "an error in line \(line) of \(lines.count)")
        } catch is TraceFormatError {
        } catch is PlatformError {
        } catch { fatalError("an error of an unknown type: \(error)") }
    }
}
