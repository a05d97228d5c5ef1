import Glibc
import Testing

/// The files of this repository, as text.
enum Repository {
    static let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    /// The text of a file, by its path from the root.
    static func text(_ path: String) throws -> String {
        let file = try #require(fopen(root + "/" + path, "r"), "no file \(path)")
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The text of a source file without comments that take a whole line.
    static func code(_ path: String) throws -> String {
        try text(path).split(separator: "\n").filter { !$0.drop { $0 == " " }.hasPrefix("//") }.joined(separator: "\n")
            + "\n"
    }

    /// A type or a function at the top level, by its name.
    nonisolated(unsafe) static let declaration =
        /(?m)^(?:(?:public|internal|final|indirect) )*(?:class|struct|enum|protocol|typealias|func) (\w+)/

    /// Names in a folder, sorted, without those that begin with a dot.
    static func list(_ path: String) throws -> [String] {
        let folder = try #require(opendir(root + "/" + path), "no folder \(path)")
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }

    /// Paths of the Swift files in a folder and those in it.
    static func sources(_ path: String) throws -> [String] {
        try list(path).flatMap { name in
            name.hasSuffix(".swift") ? [path + "/" + name] : name.contains(".") ? [] : try sources(path + "/" + name)
        }
    }

    static func exists(_ path: String) -> Bool { access(path.hasPrefix("/") ? path : root + "/" + path, F_OK) == 0 }

    /// Cells of the first table of a document whose head begins with `head`, without head and rule.
    static func table(_ path: String, head: String) throws -> [[String]] {
        let lines = try text(path).split(separator: "\n", omittingEmptySubsequences: false)
        let start = try #require(lines.firstIndex { $0.hasPrefix("| \(head) |") }, "\(path) has no table “\(head)”")
        return lines[(start + 2)...].prefix { $0.hasPrefix("|") }.map { line in
            line.dropFirst().dropLast().split(separator: "|", omittingEmptySubsequences: false).map {
                String($0.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
            }
        }
    }
}
