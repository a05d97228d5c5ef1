import FirmwareImage
import Glibc
import Hashing
import MemoryUnits
import Testing

private let path = "/usr/share/ovmf/OVMF.fd"
private let isInstalled = access(path, R_OK) == 0
private let isKnownVersion =
    (try? hexadecimal(SHA384.hash(readFile(path))))
    == "fa0dd56f4e3156e03cb377d56b5785bda51999a9c01fcf4e3d00e8848d6fe02a94d95e2c1fab707a000bb08674a7ce6a"
private let hasPython = system("python3 -c 'import hashlib, uuid' 2>/dev/null") == 0

@Suite(.enabled(if: isInstalled, "Debian's package ovmf is not installed"))
struct `Debian's OVMF image` {
    private let image: TDVFImage

    init() throws { image = try TDVFImage(readFile(path)) }

    @Test func `has metadata at its end, with code at the reset vector and one hand-off block`() {
        #expect(image.locator == .guidedTable)
        #expect(image.sections.first?.kind == .bfv)
        #expect(image.sections.filter(\.isMeasured).map(\.kind) == [.bfv])
        #expect(image.handOffBlockSection != nil)
    }

    @Test(arguments: [ByteCount.mebibytes(64), .gibibytes(1), .gibibytes(4), .gibibytes(64)])
    func `loads into a guest whose hand-off block covers all memory`(memory: ByteCount) throws {
        let layout = try GuestMemoryLayout(memory: memory, firmware: image.size)
        let plan = try LoadPlan(image: image, layout: layout)
        let block = try #require(plan.handOffBlock)
        #expect(block.memory.reduce(ByteCount.zero) { $0 + $1.range.size } == memory)
        #expect(plan.measuredSize == image.sections[0].memory.size)
    }

    @Test func `gives an MRTD that does not depend on the guest's memory`() throws {
        #expect(try mrtd(memory: .mebibytes(64)) == mrtd(memory: .gibibytes(64)))
    }

    @Test(.enabled(if: hasPython, "python3 is not installed"))
    func `gives the MRTD that an independent program computes`() throws {
        let script =
            #filePath.split(separator: "/").dropLast(2).reduce("") { $0 + "/" + $1 }
            + "/CrossChecks/tdvf_mrtd.py"
        #expect(try mrtd(memory: .gibibytes(1)) == output(of: "python3 '\(script)' '\(path)'"))
    }

    @Test(.enabled(if: isKnownVersion, "another version of ovmf than 2022.11-6+deb12u2 is installed"))
    func `of version 2022.11-6+deb12u2 gives the MRTD known for it`() throws {
        #expect(
            try mrtd(memory: .gibibytes(2))
                == "4c7206f0f483c524f12c366c711e9049030a8d47c471ee5aa9c4999a08de4057fb887fed0744d5631a212967fb231c47")
    }

    private func mrtd(memory: ByteCount) throws -> String {
        let layout = try GuestMemoryLayout(memory: memory, firmware: image.size)
        var digest = SHA384()
        try LoadPlan(image: image, layout: layout).replayMeasurement { digest.update(bufferPointer: $0) }
        return hexadecimal(digest.finalize())
    }
}

private func readFile(_ path: String) throws -> [UInt8] {
    let file = try #require(fopen(path, "r"))
    defer { fclose(file) }
    fseek(file, 0, SEEK_END)
    var bytes = [UInt8](repeating: 0, count: ftell(file))
    rewind(file)
    try #require(fread(&bytes, 1, bytes.count, file) == bytes.count)
    return bytes
}

/// The first line that a shell command prints.
private func output(of command: String) throws -> String {
    let pipe = try #require(popen(command, "r"))
    var line = [CChar](repeating: 0, count: 256)
    let got = fgets(&line, Int32(line.count), pipe) != nil
    try #require(pclose(pipe) == 0 && got, "\(command) failed")
    return String(decoding: line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
