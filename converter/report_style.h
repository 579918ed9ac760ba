// Style sheets of the report's figure and page: light, and dark where the viewer asks for it.
#ifndef SDQ_CONVERTER_REPORT_STYLE_H_
#define SDQ_CONVERTER_REPORT_STYLE_H_

namespace sdq::converter {

// s0 to s12: from the least to the greatest value, from near the background to far from it;
// t0 to t12: the ink that is read best on them.
inline constexpr char kFigureStyle[] =
    R"(text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-size:12px}
.title{font-size:22px;font-weight:600}.subtitle{font-size:13px}.heading{font-size:15px;font-weight:600}
.value{font-size:22px;font-weight:600}.name{font-size:12.5px}.small,.mean{font-size:11.5px}
.cell{font-size:12.5px;font-weight:600}.note{font-size:9.5px}
.grid,.axis,.diagonal{stroke-width:1}.diagonal{stroke-dasharray:5 4}
.faint{fill-opacity:0.42}.mark{stroke-width:1;fill-opacity:0.9}
.back{fill:#fcfcfb}.tile{fill:#ffffff;stroke:#e1e0d9}
.title,.value,.heading,.name{fill:#0b0b0b}.subtitle,.mean{fill:#52514e}.small{fill:#6b6963}
.grid{stroke:#e8e7e1}.axis{stroke:#b5b4a9}.diagonal{stroke:#8f8d85}
.attn{fill:#5b47c2}.ffn{fill:#e0662a}.plain{fill:#6b6963}.mark{stroke:#fcfcfb}
.s0{fill:#cde2fb}.t0{fill:#0b0b0b}
.s1{fill:#b7d3f6}.t1{fill:#0b0b0b}
.s2{fill:#9ec5f4}.t2{fill:#0b0b0b}
.s3{fill:#86b6ef}.t3{fill:#0b0b0b}
.s4{fill:#6da7ec}.t4{fill:#0b0b0b}
.s5{fill:#5598e7}.t5{fill:#0b0b0b}
.s6{fill:#3987e5}.t6{fill:#0b0b0b}
.s7{fill:#2a78d6}.t7{fill:#0b0b0b}
.s8{fill:#256abf}.t8{fill:#ffffff}
.s9{fill:#1c5cab}.t9{fill:#ffffff}
.s10{fill:#184f95}.t10{fill:#ffffff}
.s11{fill:#104281}.t11{fill:#ffffff}
.s12{fill:#0d366b}.t12{fill:#ffffff}
@media (prefers-color-scheme:dark){
  .back{fill:#1a1a19}.tile{fill:#222221;stroke:#383835}
  .title,.value,.heading,.name{fill:#ffffff}.subtitle,.mean{fill:#c3c2b7}.small{fill:#a3a197}
  .grid{stroke:#30302d}.axis{stroke:#5a5954}.diagonal{stroke:#7c7a72}
  .attn{fill:#9c8ff0}.ffn{fill:#e77a45}.plain{fill:#a3a197}.mark{stroke:#1a1a19}
  .s0{fill:#0d366b}.t0{fill:#ffffff}
  .s1{fill:#104281}.t1{fill:#ffffff}
  .s2{fill:#184f95}.t2{fill:#ffffff}
  .s3{fill:#1c5cab}.t3{fill:#ffffff}
  .s4{fill:#256abf}.t4{fill:#ffffff}
  .s5{fill:#2a78d6}.t5{fill:#0b0b0b}
  .s6{fill:#3987e5}.t6{fill:#0b0b0b}
  .s7{fill:#5598e7}.t7{fill:#0b0b0b}
  .s8{fill:#6da7ec}.t8{fill:#0b0b0b}
  .s9{fill:#86b6ef}.t9{fill:#0b0b0b}
  .s10{fill:#9ec5f4}.t10{fill:#0b0b0b}
  .s11{fill:#b7d3f6}.t11{fill:#0b0b0b}
  .s12{fill:#cde2fb}.t12{fill:#0b0b0b}
}
)";

inline constexpr char kPageStyle[] = R"(:root{color-scheme:light dark}
body{margin:0 auto;max-width:1040px;padding:16px;background:#fcfcfb;color:#0b0b0b;
font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
svg{display:block;width:100%;height:auto}
h2{font-size:17px;margin:32px 28px 8px}
.scroll{overflow-x:auto;margin:0 28px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid #e8e7e1}
th:first-child,td:first-child{text-align:left;padding-left:0}
thead th{font-weight:600;color:#52514e;border-bottom-color:#b5b4a9}
tfoot td{font-weight:600;border-bottom:0;border-top:1px solid #b5b4a9}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:0 28px}
dt{color:#52514e}dd{margin:0;overflow-wrap:anywhere}
pre{margin:12px 28px;padding:12px 14px;white-space:pre-wrap;overflow-wrap:anywhere;
background:#f1f0ec;border-radius:8px}
p{margin:8px 28px;color:#52514e}
@media (prefers-color-scheme:dark){
  body{background:#1a1a19;color:#ffffff}
  th,td{border-bottom-color:#30302d}thead th,dt,p{color:#c3c2b7}
  thead th{border-bottom-color:#5a5954}tfoot td{border-top-color:#5a5954}
  pre{background:#262625}
}
)";

}  // namespace sdq::converter

#endif  // SDQ_CONVERTER_REPORT_STYLE_H_
