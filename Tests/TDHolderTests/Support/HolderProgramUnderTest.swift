import ControlInterface
import FoundationEssentials
import Glibc
import KVM
import LinuxSystem
import Testing

@testable import TDHolder

/// The real `tdx-holder`, which is built beside the tests.
enum HolderProgramUnderTest {
    static let path: String = {
        let own = (try? TextFile.linkTarget("/proc/self/exe")) ?? ""
        return own.split(separator: "/").dropLast().reduce(into: "") { $0 += "/" + $1 } + "/tdx-holder"
    }()

    struct Output {
        var text: String
        var exitStatus: Int32

        var lines: [Substring] { text.split(separator: "\n") }

        func decoded<Value: Decodable>(as type: Value.Type) throws -> Value {
            try JSONDecoder().decode(type, from: Data(text.utf8))
        }
    }

    /// Runs a command that ends by itself.
    static func run(_ arguments: String) throws -> Output {
        let stream = try #require(popen("'\(path)' \(arguments)", "r"))
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = fread(&chunk, 1, chunk.count, stream)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        let status = pclose(stream)
        return Output(text: String(decoding: bytes, as: UTF8.self), exitStatus: status >> 8 & 0xff)
    }
}

/// What this machine offers, read as the program reads it.
private let host = HostReadings.read(device: "/dev/kvm").0

/// Whether guests can run out of guest_memfd here.
let canRunGuests = BackendChooser.obstacle(to: .guestMemfd, host.offers) == nil

/// Whether the kernel has cachestat(2); one that was built without it can prove no residency.
let canCountPages = host.platform.cachestat.value == true

/// The emulated backends that this machine can have.
let testedBackends: [Backend] = [.softwareProtected, .guestMemfd, .memfd].filter {
    BackendChooser.obstacle(to: $0, host.offers) == nil
}
