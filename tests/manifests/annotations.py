"""Annotations as ELAN and Praat write them."""

# Two speakers; the second tier translates the first, "words" subdivides it.
ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///home/ann/talk.wav" MIME_TYPE="audio/x-wav"{origin}/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="500"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="1500"/>
    <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="100"/>
    <TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="450"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="utterance" PARTICIPANT="Ann" TIER_ID="text@A">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>wa yali &amp; bo</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5">
      <ANNOTATION_VALUE>bóra</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="translation" PARENT_REF="text@A" TIER_ID="french@A">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
      <ANNOTATION_VALUE>ils sont là</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="words" PARENT_REF="french@A" TIER_ID="words">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a3">
      <ANNOTATION_VALUE>they</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a5" ANNOTATION_REF="a3" PREVIOUS_ANNOTATION="a4">
      <ANNOTATION_VALUE>stay</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="utterance" TIER_ID="text@B">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a6" TIME_SLOT_REF1="ts5" TIME_SLOT_REF2="ts1">
      <ANNOTATION_VALUE/></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a7" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>eh</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="notes" TIER_ID="notes"/>
</ANNOTATION_DOCUMENT>
"""
SHIFTED = ELAN.format(origin=' TIME_ORIGIN="250"').encode()
ELAN = ELAN.format(origin="").encode()

PRAAT = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "text"
        xmin = 0
        xmax = 2
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 1.5
            text = "she said ""3 ! <b>""
and left"
        intervals [3]:
            xmin = 1.5
            xmax = 2
            text = " "
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 2
        points: size = 1
        points [1]:
            number = 0.7
            mark = "click"
    item [3]:
        class = "IntervalTier"
        name = "french"
        xmin = 0
        xmax = 2
        intervals: size = 1
        intervals [1]:
            xmin = 0.25
            xmax = 1.5
            text = "dit-elle"
"""
SHORT = """File type = "ooTextFile short"
"TextGrid"

0 ! seconds
2
<exists>
1
"IntervalTier"
"text"
0
2
2
0
1.25e-1
""
1.25e-1
2
"bóra"
"""
