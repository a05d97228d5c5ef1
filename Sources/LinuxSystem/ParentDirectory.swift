/// The directory that a path's last part is in; “.” for a bare name.
public func parentDirectory(of path: String) -> String {
    guard let end = path.lastIndex(of: "/") else { return "." }
    return end == path.startIndex ? "/" : String(path[..<end])
}
