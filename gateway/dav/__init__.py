"""The WebDAV door (RFC 4918, classes 1, 2 and 3): an edge that parses, asks the use cases, and answers.

door         addresses, credential -> Grant -> place -> the method's own file
credentials  the Authorization header
paths        request targets -> StoragePath, and hrefs
call         one request, once it is known who asks for what; the hop into the storage's threads
conditions   If-Match and its family, Range (RFC 9110)        if_header   If (RFC 4918)
get, stream  content out                                      put         content in
propfind, properties  listings                                moving      MOVE and COPY
locking      LOCK and UNLOCK        guard  locks, asked by every method that writes        kept  those in listings
longtail     MKCOL, DELETE and PROPPATCH (patching) by WsgiDAV   errors, xml, lock_xml  what an answer looks like
"""
