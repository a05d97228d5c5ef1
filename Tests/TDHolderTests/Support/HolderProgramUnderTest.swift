import FoundationEssentials
import Glibc
import LinuxSystem
import Testing

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

/// Whether guests can run out of guest_memfd here.
let canRunGuests = access("/dev/kvm", R_OK | W_OK) == 0
